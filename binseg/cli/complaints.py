"""A parser's complaints in one line each, without its Python, with the file they are about."""

import contextlib
import itertools
import re
from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import yaml

from binseg.errors import BinsegError


def explained(message: str, known: Iterable[str], arguments: Sequence[str]) -> str:
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
    if found := re.search(r"unrecognized arguments: ([^-\s]\S*)", message):
        before = next((b for b, each in itertools.pairwise(arguments) if each == found[1]), "")
        if before.startswith("--"):
            remedy = f"; write {before} --out {found[1]}" if before == "--resume" else ""
            return f"{before} takes no value, but '{found[1]}' follows it{remedy}"
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
            "int": "an integer",
            "bool": "true or false",
        }
        found = next((text for name, text in kinds.items() if name in message), None)
        wanted = found or "of another type"
    return f"{key[1]} must be {wanted}, not {value[1]}"


def config_files(arguments: Sequence[str]) -> list[str]:
    """The files given by --config, in either spelling."""
    apart = [path for before, path in itertools.pairwise(arguments) if before == "--config"]
    joined = [text.removeprefix("--config=") for text in arguments if text.startswith("--config=")]
    return apart + joined


def check_yaml(path: str) -> dict[str, Any]:
    """Read a configuration file, so that its faults are reported with its name and the line."""
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
    for path in config_files(arguments):
        with contextlib.suppress(KeyError, TypeError):
            tree: Any = check_yaml(path)
            for part in key.split("."):
                tree = tree[part]
            return path
    return None
