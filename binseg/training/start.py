"""Runs that begin at a trained network: `model.start` spelt out in the configuration.

What the start brings along is written into the run's config.yaml, so that a run goes on without
the file that it began at.
"""

from collections.abc import Mapping
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

import yaml

from binseg.data.preprocess import Preprocessing
from binseg.distributed.processes import Processes
from binseg.errors import BinsegError
from binseg.nn.start import StartModel, open_start
from binseg.training.checkpoints import LAST
from binseg.training.config import HEAD_OPTIONS, Experiment, ModelConfig
from binseg.training.run_folder import CONFIG

_FREE = (
    *("weights", "start", "backbone_weights", "encoder_weights"),
    *("dropout", "gradient", "weight_gradient", "clip"),
)
"""Keys of the model that may differ from the start's: they say how it is trained, not what it
computes."""


def with_start(
    experiment: Experiment, folder: Path, *, resume: bool, processes: Processes
) -> tuple[Experiment, StartModel | None]:
    """The configuration with the architecture and the preprocessing of `model.start`.

    Args:
        experiment: as it was given.
        folder: of the run.
        resume: whether a run in there goes on, if it has a checkpoint.
        processes: those that train.

    Returns:
        The whole configuration, and the network to begin at; None without one, and in a run that
        goes on.

    Raises:
        BinsegError: the file cannot be trained on from, or a key of `model` differs from it.
    """
    source = experiment.model.start
    if source is None:
        return experiment, None
    if experiment.model.backbone_weights is not None:
        raise BinsegError("model.start brings a backbone along; leave model.backbone_weights out")
    before = processes.decided("start", lambda: _of_run(folder) if resume else None)
    if before is not None:
        return _completed(experiment, *before), None
    start = open_start(source)
    own = _as_config(start)
    _refuse_conflicts(source, experiment.model, _defaults(start) | own)
    return _completed(experiment, own, _as_data(start.preprocessing)), start


def in_words(start: StartModel, classes: list[str]) -> str:
    """What was taken over, in one line."""
    kept = [name for name in classes if name in start.labels.names]
    new = [name for name in classes if name not in start.labels.names]
    side = start.preprocessing.short_side
    parts = [
        f"begins at {start.source}: {start.model.architecture['name']}",
        f"short side {side}" if side else "images of any size",
        f"outputs kept for {', '.join(kept)}" if kept else "no output kept",
    ]
    if new:
        parts.append(f"new for {', '.join(new)}")
    return "; ".join(parts)


def _of_run(folder: Path) -> tuple[dict[str, Any], dict[str, Any]] | None:
    """Keys of model and data as the run in `folder` has them; None if there is nothing to go on
    from, or nothing that can be read, which is found out elsewhere."""
    if not (folder / LAST).exists():
        return None
    try:
        tree = yaml.safe_load((folder / CONFIG).read_text(encoding="utf-8"))
        data = {key: tree["data"].get(key) for key in _as_data(Preprocessing())}
        return dict(tree["model"]), data
    except (OSError, UnicodeDecodeError, yaml.YAMLError, KeyError, TypeError, ValueError):
        return None


def _completed(
    experiment: Experiment, model: Mapping[str, Any], data: Mapping[str, Any]
) -> Experiment:
    """With these values where none is given."""
    return replace(
        experiment,
        model=replace(
            experiment.model,
            **{key: _typed(model[key]) for key in _unset(experiment.model) & model.keys()},
        ),
        data=replace(
            experiment.data,
            **{key: _typed(data[key]) for key in _unset(experiment.data) & data.keys()},
        ),
    )


def _unset(config: Any) -> set[str]:
    others = {"weights", "start", "backbone_weights"}
    return {key for key, value in asdict(config).items() if value is None} - others


def _typed(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _as_data(preprocessing: Preprocessing) -> dict[str, Any]:
    """Keys of `data` that say the same."""
    return preprocessing.to_dict()


def _as_config(start: StartModel) -> dict[str, Any]:
    """Keys of `model` that build the start's network.

    Raises:
        BinsegError: its architecture has an option that the configuration does not.
    """
    options = dict(start.model.architecture)
    del options["num_classes"]
    heads = {theirs: ours for ours, theirs in HEAD_OPTIONS.items()}
    head_options: dict[str, Any] = options.pop("head_options", None) or {}
    for name, value in head_options.items():
        options[heads.get(name, name)] = value
    unknown = options.keys() - {each.name for each in fields(ModelConfig)}
    if unknown:
        raise BinsegError(
            f"{start.source}: its option {min(unknown)} cannot be configured; build the network by "
            "binseg.create_model(start=…) and train it with lightning"
        )
    return options


def _defaults(start: StartModel) -> dict[str, Any]:
    """What the options of the start's backbone are where its file does not name them."""
    options = getattr(getattr(start.model, "backbone", None), "options", None)
    known = {each.name for each in fields(ModelConfig)}
    return {
        each.name: getattr(options, each.name)
        for each in (fields(options) if options is not None else ())
        if each.name in known
    }


def _refuse_conflicts(source: str, given: ModelConfig, own: Mapping[str, Any]) -> None:
    conflicts = [
        f"model.{key} is {_shown(own.get(key))} there, not {_shown(value)}"
        for key, value in asdict(given).items()
        if key not in _FREE and value is not None and _typed(value) != _typed(own.get(key))
    ]
    if conflicts:
        more = f" and {len(conflicts) - 3} more" if len(conflicts) > 3 else ""
        raise BinsegError(
            f"{source}: {'; '.join(conflicts[:3])}{more}; model.start brings the architecture "
            "along: leave those out (config folder/finetune has none), or start another "
            "architecture by --model.backbone_weights"
        )


def _shown(value: Any) -> str:
    return "the default" if value is None else str(value)
