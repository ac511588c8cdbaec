"""The configuration of a comparison: a recipe, and what each network changes of it."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from jsonargparse import ArgumentError, ArgumentParser

from binseg.distributed.processes import Processes
from binseg.errors import BinsegError, unknown_name
from binseg.machine import cores
from binseg.program.file import OtherLayers
from binseg.training.config import Experiment, ModelConfig, to_plain


@dataclass
class LatencyConfig:
    """How the time from an image to its class map is measured, on the CPU.

    Args:
        size: height and width of the image, in pixels. It is resized to the short side that a
            network was trained for, and the class map has the image's size; operations are counted
            for what the network sees.
        threads: that work on an image.
        rounds: turns of each network; the minimum of the per-round medians counts.
        seconds: that a network runs in a round.
        int8: also score and time full-precision networks in 8 bits, by OpenVINO (quantized by NNCF
            on training images), or by ONNX Runtime where there is no OpenVINO.
    """

    size: tuple[int, int] = (480, 640)
    threads: int = 1
    rounds: int = 7
    seconds: float = 0.2
    int8: bool = False

    def __post_init__(self) -> None:
        for name, values, low, high in (
            ("size", self.size, 32, 8192),
            ("threads", (self.threads,), 1, cores()),
            ("rounds", (self.rounds,), 1, 1000),
            ("seconds", (self.seconds,), 0, 60),
        ):
            for value in values:
                if not low <= value <= high:
                    raise BinsegError(f"latency.{name} must lie in {low} to {high}, not {value:g}")


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Networks to train and to measure.

    Attributes:
        networks: name of a row → its experiment; the name is a folder's too.
        seeds: each network is trained once with each, as `trainer.seed`.
        folds: name of a fold → the keys that differ in it, as "data.val_groups"; each network is
            trained once for each fold and seed, and its mIoU is the mean over the folds.
        other_layers: how binary networks are packed, see `binseg.pack`.
        latency: how time is measured.
        reference: name of the row that speed-ups of networks without a twin refer to.
        against: name of the row that the others' val mIoU is set against, seed by seed.

    Raises:
        BinsegError: no network, a name that cannot be a folder's, seeds that are none or not
            different, an unknown reference or against.
    """

    networks: Mapping[str, Experiment]
    seeds: tuple[int, ...] = (0,)
    folds: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    other_layers: OtherLayers = "fp32"
    latency: LatencyConfig = field(default_factory=LatencyConfig)
    reference: str | None = None
    against: str | None = None

    def __post_init__(self) -> None:
        if not self.networks:
            raise BinsegError("networks: is empty; name one at least")
        for kind, names in (("networks", self.networks), ("folds", self.folds)):
            for name in names:
                if not re.fullmatch(r"\w[\w.+-]*", name):
                    raise BinsegError(
                        f"{kind}.{name}: names a folder too: letters, digits and _ . + - only"
                    )
        if not self.seeds or len(set(self.seeds)) < len(self.seeds) or min(self.seeds) < 0:
            raise BinsegError(f"seeds must be different numbers from 0, not {list(self.seeds)}")
        for key, row in (("reference", self.reference), ("against", self.against)):
            if row is not None and row not in self.networks:
                raise unknown_name(key, row, self.networks)

    def experiment(self, name: str, seed: int, fold: str | None = None) -> Experiment:
        """What the row `name` trains with `seed`, in a fold if there are any.

        Raises:
            BinsegError: the fold has an unknown key or a value that does not fit.
        """
        own = self.networks[name]
        if fold is not None:
            own = networks_of(own, {fold: self.folds[fold]}, kind="folds")[fold]
        return replace(own, trainer=replace(own.trainer, seed=seed))

    def baseline(self, name: str) -> str | None:
        """The row whose time a network's is compared with.

        Its twin: the row whose model differs by `precision` alone, wherever the two begin. Else
        `reference`. None for full-precision rows, and where there is neither.
        """
        own = self.networks[name].model
        if own.precision == "full":
            return None
        twin = replace(_topology(own), precision="full")
        found = (other for other, row in self.networks.items() if _topology(row.model) == twin)
        reference = None if self.reference == name else self.reference
        return next(found, reference)


Tree = Mapping[str, Any] | None
"""Keys and values like a configuration's."""


def named(tree: Mapping[Any, Tree], kind: str) -> dict[str, Tree]:
    """The tree with all of its names as text: YAML reads 18 as a number, and off as a truth value.

    Args:
        tree: name → what is different there.
        kind: networks or folds, for the message.

    Raises:
        BinsegError: a name that YAML has read as something that is no name, or one that comes
            twice.
    """
    found: dict[str, Tree] = {}
    for name, value in tree.items():
        if isinstance(name, bool) or not isinstance(name, str | int):
            raise BinsegError(f"{kind}: YAML reads a name there as {name!r}; write it in quotes")
        if str(name) in found:
            raise BinsegError(f"{kind}.{name}: is there twice; rename one")
        found[str(name)] = value
    return found


def networks_of(
    recipe: Experiment,
    overrides: Mapping[str, Mapping[str, Any] | None],
    *,
    kind: str = "networks",
) -> dict[str, Experiment]:
    """The recipe with each network's own values, as checked as the recipe itself.

    Args:
        recipe: what the networks share.
        overrides: name of a row → tree of keys and values like a configuration's, for example
            {"model": {"name": "groupnet18"}}; None and an empty tree leave the recipe as it is.
        kind: what the names are of, for messages.

    Raises:
        BinsegError: an unknown key (with the nearest one) or a value that does not fit; the
            message names the row.
    """
    shared = leaves_of(recipe)
    networks = {}
    for name, tree in overrides.items():
        own = flat(tree or {})
        try:
            _check_keys(own, shared)
            networks[name] = _experiment(shared, own)
        except BinsegError as error:
            raise BinsegError(f"{kind}.{name}: {error}") from error
    return networks


def _topology(model: ModelConfig) -> ModelConfig:
    """Without the files that its weights come from."""
    return replace(model, start=None, backbone_weights=None)


def check_buildable(networks: Mapping[str, Experiment], num_classes: int) -> None:
    """Build each network without memory for its values.

    Raises:
        BinsegError: an unknown model, an option that its family does not know, a value out of
            range, a start that cannot be trained on; the message names the row.
    """
    import torch

    from binseg.nn.segmenter import create_model
    from binseg.training.start import with_start

    for name, experiment in networks.items():
        try:
            begun, _ = with_start(experiment, Path(), resume=False, processes=Processes())
            arguments = begun.model.arguments(num_classes)
            arguments.pop("encoder_weights", None)  # nothing to download before it is trained
            with torch.device("meta"):
                create_model(**arguments)
        except BinsegError as error:
            raise BinsegError(f"networks.{name}: {error}") from error


def leaves_of(experiment: Experiment) -> dict[str, Any]:
    """Every key, as in "model.bases", and its value as YAML has it: no paths, no tuples."""
    return flat(to_plain(experiment))


def flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """{"a": {"b": 1}} as {"a.b": 1}."""
    leaves: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping) and key != "class_weights":  # whose keys are classes
            leaves |= flat(value, f"{prefix}{key}.")
        else:
            leaves[f"{prefix}{key}"] = value
    return leaves


def _check_keys(own: Mapping[str, Any], shared: Mapping[str, Any]) -> None:
    for key in own:
        if key == "trainer.seed":
            raise BinsegError("trainer.seed is one of `seeds`; remove it")
        if key not in shared:
            near = get_close_matches(key, shared, n=1, cutoff=0.5)
            hint = f"; did you mean '{near[0]}'?" if near else ""
            raise BinsegError(f"unknown option '{key}'{hint}")


def _experiment(shared: Mapping[str, Any], own: Mapping[str, Any]) -> Experiment:
    try:
        return _parsed({**shared, **own})
    except ArgumentError as error:
        for key, value in own.items():
            try:
                _parsed({**shared, key: value})
            except ArgumentError:
                raise BinsegError(
                    f"{key} cannot be {value!r}; `binseg train --help` says what it takes"
                ) from error
        raise BinsegError(" ".join(str(error).split())) from error


def _parsed(leaves: Mapping[str, Any]) -> Experiment:
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--experiment", type=Experiment)
    parsed = parser.parse_object({"experiment": tree_of(leaves)})
    experiment: Experiment = parser.instantiate(parsed).experiment
    return experiment


def tree_of(leaves: Mapping[str, Any]) -> dict[str, Any]:
    """The reverse of `flat`."""
    root: dict[str, Any] = {}
    for key, value in leaves.items():
        *path, last = key.split(".")
        node = root
        for part in path:
            node = node.setdefault(part, {})
        node[last] = value
    return root


def names_in(comparison: Comparison, only: Sequence[str] | None) -> list[str]:
    """The rows called `only`, in the comparison's order; all of them for None.

    Raises:
        BinsegError: one that is none of them.
    """
    for name in only or ():
        if name not in comparison.networks:
            raise unknown_name("network", name, comparison.networks)
    return [name for name in comparison.networks if only is None or name in only]
