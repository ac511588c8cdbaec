"""Commands about data take the configuration of a whole experiment and read its data part."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

_EXPERIMENT = {"model", "optimizer", "loss", "binarization", "distillation", "trainer"}


def with_data_of_experiment(arguments: Sequence[str]) -> list[str]:
    """The arguments with `--config EXPERIMENT.yaml` replaced by `--data` and its part of the file.

    A file that holds none of an experiment's other parts is left to the command, and so is one that
    cannot be read. If no data set is named, and the first argument is a run folder, the data of
    that run come in, which other options may change.
    """
    found: list[str] = []
    for argument in arguments:
        name, is_joined, path = argument.partition("=")
        if found and found[-1] == "--config":
            name, is_joined, path = found.pop(), "=", argument
        data = _data_of_experiment(path) if name == "--config" and is_joined else None
        if data is not None:
            found += ["--data", json.dumps(data)]
        elif is_joined and name == "--config":
            found.append(f"--config={path}")
        else:
            found.append(argument)
    named = {argument.partition("=")[0] for argument in found}
    if found and not named & {"--config", "--data", "--data.name"}:
        data = _data_of_experiment(str(Path(found[0], "config.yaml")))
        if data is not None:
            found[1:1] = ["--data", json.dumps(data)]
    return found


def _data_of_experiment(path: str) -> dict[str, Any] | None:
    try:
        tree = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        return None  # the parser says what is wrong with it
    # `evaluate` has a `model`, too, which is a file
    if not isinstance(tree, dict) or not any(isinstance(tree.get(k), dict) for k in _EXPERIMENT):
        return None
    data = tree.get("data")
    return data if isinstance(data, dict) else None
