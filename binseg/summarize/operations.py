"""Recording of every operator of a forward pass, with the layer that it belongs to."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry
from torch.utils.hooks import RemovableHandle

from binseg.nn.layers import BinaryConv2d


@dataclass(frozen=True)
class Operation:
    """One call of one operator.

    Attributes:
        layer: name of the module that it belongs to; empty for the network itself.
        operator: e.g. "aten.convolution".
        binary: whether it computes with ±1.
        macs: products that are added up.
        output: shape of its first result.
        seconds: how long it took, if that was asked for.
    """

    layer: str
    operator: str
    binary: bool
    macs: int
    output: tuple[int, ...]
    seconds: float = 0.0


class Layers:
    """Which layer of `model` is at work.

    An operator that reads a parameter belongs to that parameter's owner; any other to the innermost
    module that is running.

    Args:
        model: the network.
        tensors: its parameters and buffers by name, where others stand in for its own.
    """

    def __init__(self, model: nn.Module, tensors: dict[str, Tensor] | None = None) -> None:
        self.model = model
        self.outputs: dict[str, tuple[int, ...]] = {}
        self._modules = dict(model.named_modules())
        self._trail: list[str] = []
        tensors = _tensors(model) if tensors is None else tensors
        self._owners = {
            _storage(tensor): name.rpartition(".")[0] for name, tensor in tensors.items()
        }

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Follow the calls of the modules inside the `with`."""
        handles: list[RemovableHandle] = []
        for name, module in self._modules.items():
            handles += [
                module.register_forward_pre_hook(self._entering(name)),
                module.register_forward_hook(self._leaving(name), always_call=True),
            ]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()
            self._trail.clear()

    def of(self, arguments: tuple[Any, ...]) -> str:
        """The layer that an operator with these arguments belongs to."""
        for argument in arguments:
            if isinstance(argument, Tensor) and (owner := self._owners.get(_storage(argument))):
                return owner
        return self._trail[-1] if self._trail else ""

    def is_binary(self, layer: str) -> bool:
        """Whether the layer's real convolution stands for one of ±1 with ±1."""
        module = self._modules[layer]
        return isinstance(module, BinaryConv2d) and not module.real_input

    def _entering(self, name: str) -> Callable[..., None]:
        return lambda *_: self._trail.append(name)

    def _leaving(self, name: str) -> Callable[..., None]:
        def leave(module: nn.Module, arguments: Any, output: Any) -> None:
            self._trail.pop()
            self.outputs[name] = _first_shape(output)

        return leave


class Recorder(TorchDispatchMode):
    """Records each operator that runs inside the `with`.

    Args:
        layers: what the operators belong to; must be `watched`.
        clock: seconds; None takes no times.
        wait: called after each operator that is timed, for a device that works on its own.
    """

    def __init__(
        self,
        layers: Layers,
        *,
        clock: Callable[[], float] | None = None,
        wait: Callable[[], None] = lambda: None,
    ) -> None:
        super().__init__()
        self.operations: list[Operation] = []
        self._layers = layers
        self._clock = clock or (lambda: 0.0)
        self._wait = wait

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        began = self._clock()
        result = func(*args, **(kwargs or {}))
        self._wait()
        seconds = self._clock() - began
        layer = self._layers.of(args)
        name = func.overloadpacket._qualified_op_name.split("::")
        macs = _macs(func, args, kwargs or {}, result)
        binary = macs > 0 and self._layers.is_binary(layer)
        self.operations.append(
            Operation(layer, ".".join(name), binary, macs, _first_shape(result), seconds)
        )
        return result


def _macs(func: Any, args: Any, kwargs: Any, result: Any) -> int:
    count = flop_registry.get(func.overloadpacket)
    # torch counts a product and a sum as two
    return 0 if count is None else int(count(*args, **kwargs, out_val=result)) // 2


def _first_shape(output: Any) -> tuple[int, ...]:
    """Of the first tensor in `output` that is not empty."""
    if isinstance(output, Tensor):
        return tuple(output.shape) if output.numel() else ()
    if isinstance(output, list | tuple):
        return next((shape for each in output if (shape := _first_shape(each))), ())
    return ()


def _tensors(model: nn.Module) -> dict[str, Tensor]:
    return {**dict(model.named_parameters()), **dict(model.named_buffers())}


def _storage(tensor: Tensor) -> int:
    """The same for a tensor and its views, on the meta device too."""
    return tensor.untyped_storage()._cdata
