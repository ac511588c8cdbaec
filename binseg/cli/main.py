"""Finds the sub-command, builds its parser from its function, and words its errors."""

import contextlib
import errno
import importlib
import importlib.metadata
import importlib.util
import inspect
import itertools
import os
import re
import sys
import typing
from argparse import SUPPRESS, ArgumentError
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import yaml

from binseg.cli.config import with_shipped_configs
from binseg.cli.missing import install_advice
from binseg.cli.streams import show_any_text, terminated_in_order
from binseg.cli.switches import in_parsers_spelling
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


@dataclass(frozen=True)
class _Command:
    """Where a sub-command lives, and which of its parameters are positional, with their nargs."""

    function: str
    summary: str
    positional: dict[str, str | None] = field(default_factory=dict)


COMMANDS = {
    "quickstart": _Command(
        "quickstart:quickstart", "train, score and compare two networks on built-in scenes"
    ),
    "train": _Command("train:train", "train a network"),
    "pretrain": _Command("pretrain:pretrain", "pretrain a backbone on labelled pictures"),
    "evaluate": _Command("evaluate:evaluate", "score a model on labelled pictures", {"model": "?"}),
    "predict": _Command("predict:predict", "segment images", {"model": None, "images": "+"}),
    "pack": _Command("pack:pack", "write a trained network as bits", {"model": None}),
    "export": _Command(
        "export:export",
        "write a trained network as ONNX, for OpenVINO, or as a web page",
        {"model": "+"},
    ),
    "push": _Command(
        "push:push", "upload a model to the Hugging Face Hub", {"model": None, "name": None}
    ),
    "data import": _Command(
        "data_import:data_import",
        "turn annotations of another tool into a folder to train on",
        {"source": None},
    ),
    "data check": _Command("data_check:data_check", "look for faults in a data set"),
    "data show": _Command("data_show:data_show", "write samples as a training sees them"),
    "data bench": _Command("data_bench:data_bench", "how fast pictures are loaded, and why"),
    "data prepare": _Command(
        "data_prepare:data_prepare", "download or check a benchmark's files", {"name": None}
    ),
    "config ls": _Command("config:config_ls", "list the experiments' configurations"),
    "config cp": _Command("config:config_cp", "copy one, to change it", {"name": None}),
    "bench": _Command(
        "bench:bench", "speed, size and memory beside fp32, bf16 and int8", {"network": "?"}
    ),
    "compare": _Command("compare:compare", "train networks under one recipe, one table of all"),
    "summary": _Command(
        "summary:summary", "what of a network is 1 bit, layer by layer", {"network": None}
    ),
    "models": _Command("models:models", "list the networks that can be trained"),
    "demo": _Command("demo:demo", "show a model in the browser", {"models": "*"}),
    "doctor": _Command("doctor:doctor", "build and test the 1-bit kernels, say what is missing"),
}

_PACKED_SUMMARY = _Command(
    "packed_summary:packed_summary", COMMANDS["summary"].summary, {"network": None}
)


_RENAMED = {"rest": "other_layers"}
"""Old names of options, on the command line and in configuration files → new ones."""


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
        return _fail(
            f"not enough memory ({error}); lower the batch, the crop or the picture's size"
        )
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
    if not arguments or arguments[0] in ("-h", "--help"):
        print(_overview())
        return 0 if arguments else USAGE
    if arguments[0] == "--version":
        print(f"binseg {importlib.metadata.version('binseg')}")
        return 0
    words = 2 if " ".join(arguments[:2]) in COMMANDS else 1
    name = " ".join(arguments[:words])
    if name not in COMMANDS:
        raise unknown_name("command", name, COMMANDS)
    command = COMMANDS[name]
    if name == "summary" and importlib.util.find_spec("torch") is None:
        command = _PACKED_SUMMARY
    module, function_name = command.function.split(":")
    home = importlib.import_module(f"binseg.cli.{module}")
    rest = with_shipped_configs(arguments[words:])
    with contextlib.ExitStack() as stack:
        if name in ("train", "pretrain"):
            from binseg.cli.train import with_config_of_resumed_run

            rest = stack.enter_context(with_config_of_resumed_run(rest))
        if name in ("data check", "data show", "data bench"):
            from binseg.cli.data_part import with_data_of_experiment

            rest = with_data_of_experiment(rest)
        return _call(getattr(home, function_name), command, f"binseg {name}", rest)


def _call(function: Callable[..., int], command: _Command, prog: str, arguments: list[str]) -> int:
    from jsonargparse import ActionYesNo, ArgumentParser

    parser = ArgumentParser(
        prog=prog,
        description=(function.__doc__ or "").split("\n\n")[0],
        exit_on_error=False,
        allow_abbrev=False,
    )
    parser.add_argument("--config", action="config", help="YAML file with values for the options")
    hints = typing.get_type_hints(function)
    for parameter, nargs in command.positional.items():
        hint = hints[parameter]
        kind = typing.get_args(hint)[0] if nargs in ("+", "?", "*") else hint
        settings: dict[str, Any] = {} if nargs is None else {"nargs": nargs}
        parser.add_argument(parameter, type=kind, help=_help(function, parameter), **settings)
    defaults = inspect.signature(function).parameters
    lists = {name: kind for name, hint in hints.items() if (kind := _item_type(hint)) is not None}
    for name in lists.keys() - command.positional.keys():
        parser.add_argument(
            f"--{name}",
            type=lists[name],
            nargs="+",
            default=defaults[name].default,
            help=_help(function, name),
        )
    # a parameter cannot be called `continue`; its option can
    switches = {
        name.rstrip("_"): name
        for name, parameter in defaults.items()
        if isinstance(parameter.default, bool) or hints[name] == bool | None
    }
    for option, name in switches.items():
        parser.add_argument(
            f"--{option}",
            action=ActionYesNo(no_prefix="no_"),
            default=defaults[name].default,
            help=_help(function, name),
        )
    skip: set[str | int] = {*command.positional, *switches.values(), *lists}
    parser.add_function_arguments(function, skip=skip, fail_untyped=True)
    for old, new in _RENAMED.items():
        if new in hints:
            parser.add_argument(f"--{old}", type=hints[new], help=SUPPRESS)
    truths = [
        action.dest
        for action in parser._actions
        if bool in (hint := getattr(action, "_typehint", None), *typing.get_args(hint))
    ]
    arguments = in_parsers_spelling(arguments, switches, truths)
    for path in _config_files(arguments):
        _check_yaml(path)
    try:
        values = parser.instantiate(parser.parse_args(arguments))
    except ArgumentError as error:
        message = _explained(str(error), parser.get_defaults().keys(), arguments)
        raise UsageError(f"{message} (see {prog} --help)") from error
    except SystemExit as error:  # --help
        return int(error.code or 0)
    given = {k: v for k, v in values.items(branches=True) if "." not in k and k != "config"}
    for old, new in _RENAMED.items():
        if (value := given.pop(old, None)) is not None:
            print(
                f"note: {old} is now called {new}; the old name goes with the next release",
                file=sys.stderr,
            )
            given[new] = value
    return function(**{switches.get(key, key): value for key, value in given.items()})


def _item_type(hint: Any) -> Any:
    """What a list holds, for `list[T]` and `list[T] | None`; None for another hint."""
    for part in (hint, *typing.get_args(hint)):
        if typing.get_origin(part) is list:
            return typing.get_args(part)[0]
    return None


def _help(function: Callable[..., int], parameter: str) -> str:
    """What the docstring says of a parameter."""
    found = re.search(
        rf"^ *{parameter}: (.*?)(?:\n *\w+: |\n\n|\Z)", function.__doc__ or "", re.S | re.M
    )
    return " ".join(found[1].split()) if found else ""


def _explained(message: str, known: Iterable[str], arguments: Sequence[str]) -> str:
    """The parser's complaint in one line, with the nearest name and the file it is about."""
    patterns = (
        r"unrecognized arguments: --([^\s=]+)",
        r"Group '(?P<group>[^']+)' does not accept option '(?P<option>[^']+)'",
        r"Option '([^']+)' is not accepted",
    )
    for pattern in patterns:
        if found := re.search(pattern, message):
            key = ".".join(found.groups())
            near = get_close_matches(key, [k for k in known if k != "config"], n=1, cutoff=0.5)
            hint = f"; did you mean '{near[0]}'?" if near else ""
            source = _file_with(key, arguments)
            return f"{f'{source}: ' if source else ''}unknown option '{key}'{hint}"
    if "NestedArg" in message and (found := re.search(r'Parser key "([^"]+)"', message)):
        parts = (each for each in arguments if each.startswith(f"--{found[1]}."))
        key = next(parts, f"--{found[1]}")[2:].partition("=")[0]
        return f"unknown option '{key}'; --{found[1]} takes a value"
    return _simplified(" ".join(message.split()), arguments)


def _simplified(message: str, arguments: Sequence[str]) -> str:
    """jsonargparse's words for a value of a wrong type, without its Python."""
    key = re.search(r'Parser key "([^"]+)"', message)
    value = re.search(r"(?:Given value:|Got value:) (.*)$", message)
    if key is None or value is None:
        return message
    choices = re.search(r"Literal\[([^\]]*)\]", message)
    if choices:
        names = re.findall(r"'([^']*)'", choices[1])
        # YAML reads a bare off or on as a truth value
        given = {"False": "off", "True": "on"}.get(value[1], value[1])
        wanted = f"one of {choices[1]}"
        if given in names:
            source = _file_with(key[1], arguments) or "YAML"
            return f'{source}: {key[1]} is {value[1].lower()}; write "{given}" with its quotes'
        if near := get_close_matches(given, names, n=1, cutoff=0.4):
            return f"{key[1]} must be {wanted}, not {value[1]}; did you mean '{near[0]}'?"
    else:
        kinds = {
            "tuple": "numbers in brackets like [2,6]",
            "float": "a number",
            "int": "a whole number",
            "bool": "true or false",
        }
        found = next((text for name, text in kinds.items() if name in message), None)
        wanted = found or "of another type"
    return f"{key[1]} must be {wanted}, not {value[1]}"


def _config_files(arguments: Sequence[str]) -> list[str]:
    """The files given by --config, in either spelling."""
    apart = [path for before, path in itertools.pairwise(arguments) if before == "--config"]
    joined = [text.removeprefix("--config=") for text in arguments if text.startswith("--config=")]
    return apart + joined


def _check_yaml(path: str) -> dict[str, Any]:
    """Read a configuration file, so that its faults are told with its name and the line."""
    try:
        tree = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise BinsegError(f"{path}: cannot be read ({error.strerror}); check --config") from error
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f" near line {mark.line + 1}" if mark else ""
        raise BinsegError(f"{path}: not valid YAML{where}; correct the file") from error
    if not isinstance(tree, dict):
        raise BinsegError(f"{path}: holds no options; it should say, for example, `model: {{…}}`")
    empty = [key for key, value in tree.items() if value is None]
    if empty:
        raise BinsegError(f"{path}: '{empty[0]}' has nothing under it; remove it or fill it in")
    return tree


def _file_with(key: str, arguments: Sequence[str]) -> str | None:
    """The configuration file among the arguments that has `key`, if any."""
    for path in _config_files(arguments):
        with contextlib.suppress(KeyError, TypeError):
            tree: Any = _check_yaml(path)
            for part in key.split("."):
                tree = tree[part]
            return path
    return None


def _overview() -> str:
    width = max(map(len, COMMANDS))
    lines = [f"  {name:<{width}}  {command.summary}" for name, command in COMMANDS.items()]
    return "\n".join(
        [
            "usage: binseg COMMAND …   (binseg COMMAND --help says what it takes)",
            "",
            "Semantic segmentation with 1-bit weights and activations.",
            "",
            *lines,
        ]
    )


def _fail(message: str, status: int = 1) -> int:
    print(f"binseg: error: {message}", file=sys.stderr)
    return status
