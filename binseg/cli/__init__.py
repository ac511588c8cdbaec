"""The `binseg` command: one file a sub-command, and here how their arguments are read."""

from binseg.cli.main import main

__all__ = ["main"]
