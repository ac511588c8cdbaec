"""Finds the sub-command, reads its arguments, calls it, and words its errors."""

import contextlib
import errno
import importlib
import importlib.metadata
import importlib.util
import os
import sys
from argparse import ArgumentError
from collections.abc import Callable, Sequence
from typing import Any

from binseg.cli.commands import COMMANDS, PACKED_SUMMARY, Command
from binseg.cli.complaints import check_yaml, config_files, explained
from binseg.cli.config import with_shipped_configs
from binseg.cli.help_text import is_help, wanted_help
from binseg.cli.missing import install_advice
from binseg.cli.parser import CommandParser
from binseg.cli.streams import show_any_text, terminated_in_order
from binseg.distributed.processes import joined
from binseg.errors import BinsegError, unknown_name

INTERRUPTED = 130
USAGE = 2

_SHARED = ("train", "pretrain", "evaluate", "predict")
"""Commands whose work several processes share if torchrun starts them."""

WORKER_LOST = (
    "a process that reads images was killed, most likely for want of memory; lower --data.workers, "
    "the batch or the crop"
)


class UsageError(BinsegError):
    """A command cannot be understood."""

    status = USAGE


def main(argv: Sequence[str] | None = None) -> int:
    """Run `binseg ARGUMENTS`; returns the exit status.

    0 done, 1 a fault that one line on stderr explains, 2 wrong usage, 130 Ctrl-C.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    show_any_text()
    try:
        with terminated_in_order(), _processes(arguments):
            return _run(arguments)
    except BinsegError as error:
        return _fail(str(error), error.status)
    except MemoryError as error:
        return _fail(f"not enough memory ({error}); lower the batch, the crop or the image's size")
    except KeyboardInterrupt:
        return _fail("interrupted", INTERRUPTED)
    except BrokenPipeError:
        # whoever read the output has gone; nothing more may be written to it
        with contextlib.suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except ImportError as error:
        if (remedy := install_advice(error)) is None:
            raise
        return _fail(remedy)
    except RuntimeError as error:
        if "DataLoader worker" in str(error):
            return _fail(WORKER_LOST)
        if "DefaultCPUAllocator" not in str(error):
            raise
        return _fail("not enough memory; lower the batch, the crop or the network's width")
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        return _fail(f"{error.filename or 'disk'}: no space left; free some and run again")


def _processes(arguments: list[str]) -> contextlib.AbstractContextManager[Any]:
    return joined() if arguments and arguments[0] in _SHARED else contextlib.nullcontext()


def _run(arguments: list[str]) -> int:
    if not arguments or is_help(arguments[0]):
        print(_overview())
        return 0 if arguments else USAGE
    if arguments[0] == "--version":
        print(f"binseg {importlib.metadata.version('binseg')}")
        return 0
    words = 2 if " ".join(arguments[:2]) in COMMANDS else 1
    name = " ".join(arguments[:words])
    if name not in COMMANDS:
        if parts := [each for each in COMMANDS if each.startswith(f"{name} ")]:
            print(_overview(parts))
            return 0 if arguments[1:] and is_help(arguments[1]) else USAGE
        raise unknown_name("command", name, COMMANDS)
    given = arguments[words:]
    command, function = find(name)
    if (wanted := wanted_help(given)) is not None:
        print(CommandParser(command, function, f"binseg {name}").help(full=wanted == "all"))
        return 0
    given = with_shipped_configs(given)
    with contextlib.ExitStack() as stack:
        if name in ("train", "pretrain"):
            from binseg.cli.train import with_config_of_resumed_run

            given = stack.enter_context(with_config_of_resumed_run(given))
        if command.reads_data:
            from binseg.cli.data_part import with_data_of_experiment

            given = with_data_of_experiment(given)
        return _call(command, function, f"binseg {name}", given)


def find(name: str) -> tuple[Command, Callable[..., int]]:
    """A sub-command and its function."""
    command = COMMANDS[name]
    if name == "summary" and importlib.util.find_spec("torch") is None:
        command = PACKED_SUMMARY
    module, function = command.function.split(":")
    return command, getattr(importlib.import_module(f"binseg.cli.{module}"), function)


def _call(command: Command, function: Callable[..., int], prog: str, arguments: list[str]) -> int:
    reader = CommandParser(command, function, prog)
    arguments = reader.spelled(arguments)
    for path in config_files(arguments):
        check_yaml(path)
    try:
        values = reader.parse(arguments)
    except ArgumentError as error:
        message = explained(str(error), reader.parser.get_defaults().keys(), arguments)
        raise UsageError(f"{message} (see {prog} --help-all)") from error
    except SystemExit as error:  # --print_config
        return int(error.code or 0)
    return function(**values)


def _overview(names: Sequence[str] = tuple(COMMANDS)) -> str:
    width = max(map(len, names))
    lines = [f"  {name:<{width}}  {COMMANDS[name].summary}" for name in names]
    return "\n".join(
        [
            "usage: binseg COMMAND …   (binseg COMMAND --help lists its options)",
            "",
            "Semantic segmentation with 1-bit weights and activations.",
            "",
            *lines,
        ]
    )


def _fail(message: str, status: int = 1) -> int:
    print(f"binseg: error: {message}", file=sys.stderr)
    return status
