"""What --help and --help-all print: the options in people's words, without Python's types."""

import argparse
import re
import textwrap
import types
import typing
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple, Union

from binseg.shipped import shipped_models

_HELP = ("-h", "--help")
_VALUES: dict[Any, str] = {int: "N", float: "X", bool: "true|false", str: "TEXT", Path: "PATH"}
_MAX_CHOICES = 60  # characters; more are in the text, or in completions


class Option(NamedTuple):
    """What a command takes.

    Attributes:
        key: its name in a configuration; groups have dots.
        flags: as it is written; none for what is given by position.
        value: what stands for its value; None for a switch.
        choices: all values that it may have, if they are few.
        text: what it means.
        default: in people's words; "" for none.
        nargs: as in argparse.
        is_required: it must be given.
        is_model: its value is a model's file, folder or name.
        is_path: its value is a file or a folder.
    """

    key: str
    flags: tuple[str, ...]
    value: str | None
    choices: tuple[str, ...]
    text: str
    default: str
    nargs: str | int | None
    is_required: bool
    is_model: bool
    is_path: bool


def is_help(argument: str) -> bool:
    """Whether an argument asks for help of any length."""
    return argument in _HELP or argument.replace("_", "-") == "--help-all"


def wanted_help(arguments: Sequence[str]) -> Literal["short", "all"] | None:
    """What help a command's arguments ask for: --help, --help-all, --help all, or none."""
    own = list(arguments[: arguments.index("--")] if "--" in arguments else arguments)
    for place, argument in enumerate(own):
        if is_help(argument):
            is_full = argument not in _HELP or own[place + 1 : place + 2] == ["all"]
            return "all" if is_full else "short"
    return None


def options_of(parser: argparse.ArgumentParser, models: Collection[str]) -> list[Option]:
    """What a parser takes, in its order; what is hidden is left out.

    Args:
        models: keys of options whose values are models.
    """
    found = []
    for action in parser._actions:
        is_own = type(action).__name__ not in ("_ActionConfigLoad", "_ActionHelpClassPath")
        if action.help == argparse.SUPPRESS or not is_own:
            continue
        hint = getattr(action, "_typehint", None) or action.type
        is_switch = action.nargs == 0
        is_list = action.nargs in ("+", "*")
        value = None if is_switch else _value_name(hint)
        if action.dest == "config":
            value = "PATH"
        if value is not None and not action.option_strings:
            value = action.dest.upper()
        is_model = action.dest in models or action.dest == "model.start"
        text = " ".join((action.help or "").split())
        if action.dest == "print_config":
            value, text = "skip_default", "print the configuration as YAML and exit"
        if is_model:
            names = ", ".join(shipped_models())
            text = re.sub("shipped names?", rf"\g<0> ({names})", text, count=1)
        found.append(
            Option(
                key=action.dest,
                # jsonargparse's `--key+`, which appends, is for those who read its manual
                flags=tuple(_flag(each) for each in action.option_strings if each[-1] != "+"),
                value="MODEL" if is_model and action.option_strings else value,
                choices=_choices(hint),
                text=text,
                default="" if is_list or action.required else _in_words(action.default, is_switch),
                nargs=action.nargs,
                is_required=bool(action.required),
                is_model=is_model,
                is_path=Path in (hint, *typing.get_args(hint)),
            )
        )
    return found


def _flag(option: str) -> str:
    """Words of a command's own options are joined by "-"; keys of YAML files stay as they are."""
    return option if "." in option else option.replace("_", "-")


def _parts(hint: Any) -> list[Any]:
    """The types that a value may have, without None."""
    is_union = typing.get_origin(hint) in (Union, types.UnionType)
    parts = typing.get_args(hint) if is_union else (hint,)
    return [part for part in parts if part not in (type(None), None)]


def _choices(hint: Any) -> tuple[str, ...]:
    found: list[str] = []
    for part in _parts(hint):
        if typing.get_origin(part) is Literal:
            found += map(str, typing.get_args(part))
        elif part is bool:
            found += ["true", "false"]
        else:
            return ()
    return tuple(found)


def _value_name(hint: Any) -> str:
    """What stands for a value of a type: {fp32,bf16}, N, [N,N], PATH, …"""
    names = []
    for part in _parts(hint):
        origin, inner = typing.get_origin(part), typing.get_args(part)
        if origin is Literal:
            joined = ",".join(map(str, inner))
            names.append(f"{{{joined}}}" if len(joined) <= _MAX_CHOICES else "NAME")
        elif origin is tuple:
            many = inner[-1] is Ellipsis
            each = [_value_name(kind) for kind in inner if kind is not Ellipsis]
            names.append(f"[{','.join(each)}{',…' if many else ''}]")
        elif origin is list:
            names.append(f"[{_value_name(inner[0])},…]")
        elif origin is dict:
            names.append("{NAME: …}")
        else:
            names.append(_VALUES.get(part, "{KEY: …}"))
    return "|".join(dict.fromkeys(names)) or "TEXT"


def _in_words(default: Any, is_switch: bool) -> str:
    """A default as one would write it; "" for what means nothing."""
    if default is None or default == argparse.SUPPRESS or default == [] or default == "":
        return ""
    if isinstance(default, bool):
        return ("yes" if default else "") if is_switch else str(default).lower()
    if isinstance(default, tuple | list):
        return f"[{','.join(_in_words(each, False) or 'null' for each in default)}]"
    if isinstance(default, float):
        return f"{default:g}"
    return str(default)


def help_text(
    prog: str, description: str, options: Sequence[Option], common: Sequence[str] | None = None
) -> str:
    """A help page.

    Args:
        prog: the command.
        description: what it does.
        options: all that it takes.
        common: keys to show, each with the first clause of its text; None for all in full.
    """
    named = [option for option in options if option.flags]
    required = [f"{option.flags[0]} {option.value}" for option in named if option.is_required]
    given = [_by_position(option) for option in options if not option.flags]
    page = argparse.ArgumentParser(
        prog=prog,
        usage=" ".join([prog, *given, *required, "[options]"]),
        description=description,
        formatter_class=_Page,
        add_help=False,
    )
    if common is None:
        for option in options:
            title = option.key.rpartition(".")[0]
            add_option(_group(page, title), option, _text(option, is_short=False))
    else:
        shown = [option for option in options if not option.flags]
        shown += sorted(
            (each for each in named if each.key in common), key=lambda each: common.index(each.key)
        )
        for option in shown:
            add_option(_group(page, ""), option, _text(option, is_short=True))
    if common is not None:
        page.epilog = f"{prog} --help-all describes all {len(named)} options in full."
    return page.format_help().rstrip()


def _by_position(option: Option) -> str:
    if option.nargs in ("?", "*"):
        return f"[{option.value}{' …' if option.nargs == '*' else ''}]"
    return f"{option.value}{' …' if option.nargs else ''}"


class _Page(argparse.HelpFormatter):
    """Help in two columns, with paragraphs kept apart in the description."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=30)

    def _split_lines(self, text: str, width: int) -> list[str]:
        return textwrap.wrap(" ".join(text.split()), width, break_on_hyphens=False)

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        parts = (super(_Page, self)._fill_text(part, width, indent) for part in text.split("\n\n"))
        return "\n\n".join(parts)


def add_option(container: argparse._ActionsContainer, option: Option, text: str) -> argparse.Action:
    """Add an option to a plain parser, or to a group of one, with this help."""
    help = text.replace("%", "%%")
    if option.value is None:
        return container.add_argument(*option.flags, action="store_true", help=help)
    flags = option.flags or (option.key,)
    nargs = option.nargs if isinstance(option.nargs, str) else None
    return container.add_argument(*flags, metavar=option.value, nargs=nargs, help=help)


def _group(page: argparse.ArgumentParser, title: str) -> argparse._ActionsContainer:
    title = title or "options"
    for group in page._action_groups:
        if group.title == title:
            return group
    return page.add_argument_group(title)


def first_clause(text: str) -> str:
    """What is enough to remember an option by."""
    for end in re.finditer(r"; |(?<!e\.g)\. ", text):
        clause = text[: end.start()]
        if clause.count("(") == clause.count(")"):
            return clause
    return text.removesuffix(".")


def _text(option: Option, *, is_short: bool) -> str:
    text = first_clause(option.text) if is_short else option.text
    notes = [f"default: {option.default}"] if option.default else []
    notes += ["required"] if option.is_required and option.flags else []
    return f"{text.removesuffix('.')} ({', '.join(notes)})" if notes else text
