"""The layers that the compiler knows: from `torch.fx`'s calls to nodes of the graph.

Modules of torch and of binseg are in `modules.py`, functions and methods in `functions.py`; each
enters its readers here. What is not entered is refused by name.
"""

import operator
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn

from binseg.compiler.graph import Graph, Node, Value
from binseg.errors import BinsegError

ModuleReader = Callable[..., Any]
FunctionReader = Callable[..., Any]

_MODULES: dict[type[nn.Module], ModuleReader] = {}
_FUNCTIONS: dict[Any, FunctionReader] = {}
_METHODS: dict[str, FunctionReader] = {}


def reads_module(*kinds: type[nn.Module]) -> Callable[[ModuleReader], ModuleReader]:
    """Enter a reader (context, module, *inputs) of a module's call."""

    def enter(reader: ModuleReader) -> ModuleReader:
        _MODULES.update(dict.fromkeys(kinds, reader))
        return reader

    return enter


def reads_function(
    *functions: Any, methods: str = ""
) -> Callable[[FunctionReader], FunctionReader]:
    """Enter a reader (context, *arguments) of calls of functions, and of methods by their names."""

    def enter(reader: FunctionReader) -> FunctionReader:
        _FUNCTIONS.update(dict.fromkeys(functions, reader))
        _METHODS.update(dict.fromkeys(methods.split(), reader))
        return reader

    return enter


@dataclass(frozen=True)
class Shape:
    """The sizes (N, C, H, W) of a value, or its spatial part (H, W)."""

    of: Value
    spatial: bool = False


@dataclass(frozen=True)
class Side:
    """A size that only the image decides: of N (axis 0), H (2) or W (3)."""

    of: Value
    axis: int


@dataclass(frozen=True)
class ChannelsLast:
    """A map seen as (N, H, W, C)."""

    of: Value


class Context:
    """Where a reader is: the graph that it adds to, and how it refuses.

    Attributes:
        graph: with all nodes so far.
        name: of the call in the trained network.
        what: the layer, for messages.
    """

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.name = self.what = ""

    def refuse(self, reason: str = "") -> BinsegError:
        """The error for a layer that cannot be packed."""
        because = f": {reason}" if reason else ""
        return BinsegError(f"{self.name} ({self.what}) cannot be packed{because}")

    def require(self, holds: bool, reason: str = "") -> None:
        """Refuse unless `holds`."""
        if not holds:
            raise self.refuse(reason)

    def value(self, x: Any) -> Value:
        """`x`, refused if it is no map of real numbers."""
        if not isinstance(x, Value):
            raise self.refuse(f"it reads a {type(x).__name__} where a map is needed")
        return x

    def node(self, kind: str, *inputs: Value, **more: Any) -> Node:
        """A new node at the graph's end."""
        return self.graph.add(kind, inputs, self.name, **more)

    def like(self, kind: str, x: Value, **more: Any) -> Value:
        """The result of a new node that reads `x` and gives a map of its sizes."""
        node = self.node(kind, x, **more)
        return node.give("real", x.channels, pixel=x.pixel, branches=x.branches)


def read(graph: Graph, calls: fx.Graph, model: nn.Module, image: Value) -> Any:
    """Add the calls of a traced network to `graph`.

    Args:
        graph: with what makes `image`.
        calls: see `trace`.
        model: the network.
        image: its input.

    Returns:
        What the network returns.

    Raises:
        BinsegError: a layer that is not known, or one in a way that programs do not have.
    """
    context = Context(graph)
    known: dict[fx.Node, Any] = {}
    for call in calls.nodes:
        if call.op == "placeholder":
            if image in known.values():
                raise BinsegError("a network with more than one input cannot be packed")
            known[call] = image
            continue
        if call.op == "get_attr":
            known[call] = _attribute(model, str(call.target))
            continue
        arguments = fx.node.map_arg(call.args, known.__getitem__)
        options = fx.node.map_arg(call.kwargs, known.__getitem__)
        if call.op == "output":
            return arguments[0]
        known[call] = _called(context, call, model, arguments, options)
        if _works_in_place(call, model) and isinstance(call.args[0], fx.Node):
            known[call.args[0]] = known[call]
    raise AssertionError("a traced network has an output")


def _called(
    context: Context, call: fx.Node, model: nn.Module, arguments: Any, options: dict[str, Any]
) -> Any:
    reader: Callable[..., Any] | None
    if call.op == "call_module":
        module = model.get_submodule(str(call.target))
        context.name, context.what = str(call.target), type(module).__name__
        reader = next((_MODULES[kind] for kind in type(module).__mro__ if kind in _MODULES), None)
        arguments = (module, *arguments)
    else:
        context.name = _scope(call)
        context.what = getattr(call.target, "__name__", str(call.target))
        values = [each for each in _leaves((arguments, options)) if not _is_constant(each)]
        if not values:  # nothing of the image in it
            return _evaluated(call, arguments, options)
        table: Any = _FUNCTIONS if call.op == "call_function" else _METHODS
        reader = table.get(call.target)
    if reader is None:
        raise context.refuse()
    try:
        return reader(context, *arguments, **options)
    except TypeError as error:
        if "argument" not in str(error):
            raise
        raise context.refuse(str(error).partition(" ")[2]) from error


def _scope(call: fx.Node) -> str:
    """The layer whose code makes a call, and the call."""
    stack = call.meta.get("nn_module_stack") or {}
    layer = next(reversed(stack.values()), ("",))[0] if stack else ""
    return f"{layer}.{call.name}" if layer else call.name


def _attribute(model: nn.Module, path: str) -> Any:
    found: Any = model
    for part in path.split("."):
        found = getattr(found, part)
    return found.detach().cpu() if isinstance(found, Tensor) else found


def _leaves(tree: Any) -> list[Any]:
    if isinstance(tree, dict):
        tree = list(tree.values())
    if isinstance(tree, list | tuple):
        return [leaf for each in tree for leaf in _leaves(each)]
    if isinstance(tree, slice):
        return _leaves([tree.start, tree.stop, tree.step])
    return [tree]


def _is_constant(leaf: Any) -> bool:
    return not isinstance(leaf, Value | Shape | Side | ChannelsLast)


@torch.no_grad()
def _evaluated(call: fx.Node, arguments: Any, options: dict[str, Any]) -> Any:
    if call.op == "call_function":
        return call.target(*arguments, **options)  # type: ignore[operator]
    return getattr(arguments[0], str(call.target))(*arguments[1:], **options)


def _works_in_place(call: fx.Node, model: nn.Module) -> bool:
    """Whether readers of the call's input that come later see its result."""
    if call.op == "call_module":
        return bool(getattr(model.get_submodule(str(call.target)), "inplace", False))
    if call.op == "call_method":
        return str(call.target).endswith("_") and not str(call.target).endswith("__")
    return call.target in (operator.iadd, operator.imul) or bool(call.kwargs.get("inplace"))
