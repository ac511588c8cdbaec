"""Configurations as the command line understands them."""

import contextlib
import io
from functools import cache
from pathlib import Path

import yaml

from binseg.cli import main


@cache
def parsed(path: Path) -> dict:
    """The experiment in a file under configs/, with every default filled in."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        status = main(["train", "--config", str(path), "--out", "runs/none", "--print_config"])
    assert status == 0
    return yaml.safe_load(printed.getvalue())
