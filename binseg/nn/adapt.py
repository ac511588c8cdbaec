"""Starting a backbone from the tensors of another one: K bases to another K, real to binary.

What may differ: bases, gates, merge, dilations, output stride, and a convolution that was real and
becomes binary. The latent weights of base j come from base j mod K of the source. Copies beyond
the first K get noise, or all copies of a base would learn the same for ever.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from binseg.nn.activations import RPReLU
from binseg.nn.layers import BinaryConv2d

_DROPPED = ("theta", "lambdas")  # by a target without gates, or whose merge is a mean

NOISE = 0.1
"""Standard deviation of the noise, in those of a layer's weights: of normally distributed weights
arctan(0.1) / π, 3 % of the signs, flip."""


def adapt_tensors(
    source: nn.Module,
    tensors: Mapping[str, Tensor],
    target: nn.Module,
    *,
    noise: float = NOISE,
    seed: int = 0,
) -> dict[str, Tensor]:
    """The tensors of `source` as `target` takes them.

    λ of a merge: the copies of a base share its λ, so that without noise more bases give the
    merged map of the source (with a mean for the merge, where the new K is a multiple of the old
    one); fewer bases are enlarged until Σ|λ| is that of the source; without λ in the source they
    are 1 / K. θ of a block: one gate is repeated, K gates are averaged into one.

    Args:
        source: backbone that `tensors` belong to; its values are not looked at.
        tensors: state dict of `source`.
        target: backbone that is to start from them.
        noise: see `NOISE`.
        seed: of the noise.

    Returns:
        A state dict for `target`. Gates, thresholds and slopes that a source without them cannot
        know have the values of `target`. Other tensors without a counterpart are missing from it or
        keep the source's name, and those of other sizes their shape, so that a comparison with the
        target's own finds them.
    """
    plan = _Plan()
    _match(source, target, "", "", plan)
    generator = torch.Generator().manual_seed(seed)
    adapted: dict[str, Tensor] = {}
    for name, own in target.state_dict().items():
        theirs = tensors.get(plan.origin.get(name, ""))
        if name in plan.lambdas:
            adapted[name] = _lambdas(theirs, len(own))
        elif theirs is None:
            if name in plan.optional:
                adapted[name] = own
        elif name in plan.thetas:
            adapted[name] = _thetas(theirs, len(own))
        elif name in plan.stacked and own.ndim:
            adapted[name] = _repeat_rows(theirs, len(own))
            if name in plan.latent:
                _perturb_(adapted[name], len(theirs), noise, generator)
        else:
            adapted[name] = theirs
    used = {plan.origin[name] for name in adapted if name in plan.origin}
    unused = tensors.keys() - used - adapted.keys()
    return adapted | {name: tensors[name] for name in unused if not name.endswith(_DROPPED)}


@dataclass
class _Plan:
    """Names of the target's tensors, by what becomes of them.

    `origin`: → name in the source. `stacked`: their bases lie along the first dimension, so row r
    of them comes from row r mod rows of the source. `optional`: may stay as they are.
    """

    origin: dict[str, str] = field(default_factory=dict)
    stacked: set[str] = field(default_factory=set)
    latent: set[str] = field(default_factory=set)
    lambdas: set[str] = field(default_factory=set)
    thetas: set[str] = field(default_factory=set)
    optional: set[str] = field(default_factory=set)


def _match(source: nn.Module | None, target: nn.Module, there: str, here: str, plan: _Plan) -> None:
    """Enter `target` and all below it into the plan; `there` and `here` are prefixes of names."""
    theirs = {} if source is None else dict(_own(source))
    for name, _ in _own(target):
        if name in theirs:
            plan.origin[here + name] = there + name
        if name == "lambdas":
            plan.lambdas.add(here + name)
        if name == "theta":
            plan.thetas.add(here + name)
            plan.optional.add(here + name)
    if isinstance(target, BinaryConv2d):
        mine = {here + name for name in target.state_dict()}
        plan.stacked |= mine
        plan.latent.add(here + "weight")
        plan.optional |= mine - {here + "weight"}
    if isinstance(target, RPReLU):
        mine = {here + name for name in target.state_dict()}
        plan.stacked |= mine
        plan.optional |= mine
    is_unit = any(isinstance(child, BinaryConv2d) for child in target.children())
    if is_unit and isinstance(target, nn.Sequential):
        plan.stacked |= {here + name for name in target.state_dict()}
    for mine_name, mine_child, their_name in _children(source, target):
        child = None if their_name is None or source is None else source.get_submodule(their_name)
        if is_unit and child is None and isinstance(mine_child, nn.PReLU) and _is_real(source):
            plan.optional.add(f"{here}{mine_name}.weight")
        _match(child, mine_child, f"{there}{their_name}.", f"{here}{mine_name}.", plan)


def _children(
    source: nn.Module | None, target: nn.Module
) -> Iterator[tuple[str, nn.Module, str | None]]:
    """(name, child of the target, name of its counterpart in the source or None).

    In sequences the n-th layer of a kind belongs to the n-th of that kind: a pooling or a sum over
    bases may stand between.
    """
    if not (isinstance(source, nn.Sequential) and isinstance(target, nn.Sequential)):
        known = {} if source is None else dict(source.named_children())
        for name, child in target.named_children():
            fits = name in known and _kinds_agree(known[name], child)
            yield name, child, name if fits else None
        return
    left = list(source.named_children())
    for name, child in target.named_children():
        found = next((n for n, other in left if _kinds_agree(other, child)), None)
        left = [(n, other) for n, other in left if n != found]
        yield name, child, found


def _kinds_agree(source: nn.Module, target: nn.Module) -> bool:
    """Whether one takes the other's tensors; a binary convolution takes a real one's weights."""
    if isinstance(target, BinaryConv2d):
        return isinstance(source, BinaryConv2d | nn.Conv2d)
    if isinstance(target, nn.Sequential | nn.ModuleList):
        return isinstance(source, nn.Sequential | nn.ModuleList)
    return type(source) is type(target)


def _is_real(unit: nn.Module | None) -> bool:
    return unit is not None and not any(isinstance(m, BinaryConv2d) for m in unit.children())


def _own(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    yield from module.named_parameters(recurse=False)
    yield from module.named_buffers(recurse=False)


def _repeat_rows(tensor: Tensor, rows: int) -> Tensor:
    """Row r of the result is row r mod len(tensor)."""
    return tensor[torch.arange(rows) % len(tensor)]


def _perturb_(weight: Tensor, exact: int, noise: float, generator: torch.Generator) -> None:
    """Add noise to the rows from `exact` on."""
    copies = weight[exact:]
    spread = float(weight[:exact].float().std())
    copies += noise * spread * torch.randn(copies.shape, generator=generator, dtype=weight.dtype)


def _lambdas(source: Tensor | None, bases: int) -> Tensor:
    if source is None:
        return torch.full((bases,), 1 / bases)
    index = torch.arange(bases) % len(source)
    merged = source[index] / index.bincount()[index]
    total = merged.abs().sum()
    if bases >= len(source) or total == 0:
        return merged
    return merged * (source.abs().sum() / total)


def _thetas(source: Tensor, gates: int) -> Tensor:
    if gates == 1:
        return source.mean(dim=0, keepdim=True)
    return _repeat_rows(source, gates)
