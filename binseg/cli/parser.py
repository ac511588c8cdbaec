"""A sub-command's arguments, read by jsonargparse from the types and the docstring of its
function."""

import inspect
import re
import typing
import warnings
from argparse import SUPPRESS
from collections.abc import Callable
from typing import Any

from jsonargparse import ActionYesNo, ArgumentParser

from binseg.cli.commands import Command
from binseg.cli.help_text import Option, help_text, options_of
from binseg.cli.switches import in_parsers_spelling
from binseg.errors import BinsegWarning

_OWN_OPTION = {"continue_": "continue"}
"""Options whose names Python keeps for itself, by their parameters."""


class CommandParser:
    """Reads what is behind `binseg NAME`.

    Attributes:
        parser: jsonargparse's.
    """

    def __init__(self, command: Command, function: Callable[..., int], prog: str) -> None:
        self._command, self._prog = command, prog
        self._text = inspect.cleandoc(function.__doc__ or "")
        hints = typing.get_type_hints(function)
        parameters = inspect.signature(function).parameters
        self._switches = {
            _OWN_OPTION.get(name, name): name
            for name, parameter in parameters.items()
            if isinstance(parameter.default, bool) or hints.get(name) == bool | None
        }
        self.parser = ArgumentParser(
            prog=prog, exit_on_error=False, allow_abbrev=False, add_help=False
        )
        self.parser.add_argument(
            "--config", action="config", help="YAML file with values for the options"
        )
        for name, nargs in command.positional.items():
            kind = typing.get_args(hints[name])[0] if nargs in ("+", "?", "*") else hints[name]
            self._add(name, type=kind, **({} if nargs is None else {"nargs": nargs}))
        lists = {name: kind for name, hint in hints.items() if (kind := _item_type(hint))}
        for name in (each for each in lists if each not in command.positional):
            default = parameters[name].default
            self._add(f"--{name}", type=lists[name], nargs="+", default=default)
        for option, name in self._switches.items():
            action, default = ActionYesNo(no_prefix="no_"), parameters[name].default
            self._add(f"--{option}", name, action=action, default=default)
        skip: set[str | int] = {*command.positional, *self._switches.values(), *lists}
        self.parser.add_function_arguments(function, skip=skip, fail_untyped=True)
        for old, new in command.renamed.items():
            self.parser.add_argument(f"--{old}", type=hints[new], help=SUPPRESS)

    def _add(self, option: str, parameter: str | None = None, **settings: Any) -> None:
        name = parameter or option.removeprefix("--")
        found = re.search(rf"^ *{name}: (.*?)(?:\n *\w+: |\n\n|\Z)", self._text, re.S | re.M)
        text = " ".join(found[1].split()) if found else ""
        self.parser.add_argument(option, help=text, **settings)

    def spelled(self, arguments: list[str]) -> list[str]:
        """The arguments as the parser wants them; people may write switches in many ways."""
        truths = [
            action.dest
            for action in self.parser._actions
            if bool in (hint := getattr(action, "_typehint", None), *typing.get_args(hint))
        ]
        return in_parsers_spelling(arguments, self._switches, truths)

    def parse(self, arguments: list[str]) -> dict[str, Any]:
        """The function's arguments; `arguments` as `spelled` gives them.

        Raises:
            ArgumentError: what jsonargparse finds wrong.
        """
        values = self.parser.instantiate(self.parser.parse_args(arguments))
        given = {k: v for k, v in values.items(branches=True) if "." not in k and k != "config"}
        for old, new in self._command.renamed.items():
            if (value := given.pop(old, None)) is not None:
                warnings.warn(
                    f"{old} is now called {new}; the old name goes with the next release",
                    BinsegWarning,
                    stacklevel=2,
                )
                given[new] = value
        return {self._switches.get(key, key): value for key, value in given.items()}

    def options(self) -> list[Option]:
        """All that the command takes, with what people should read about it."""
        return options_of(self.parser, self._command.models)

    def help(self, *, full: bool) -> str:
        """The text for --help, or in full for --help-all."""
        options = self.options()
        description = self._text.partition("\n\nArgs:")[0]
        if full:
            return help_text(self._prog, description, options)
        everywhere = ("config", "print_config")
        ordered = sorted(options, key=lambda option: not option.is_required)
        own = [option.key for option in ordered if option.key not in everywhere]
        common = self._command.common or own
        return help_text(self._prog, description.partition("\n\n")[0], options, common)


def _item_type(hint: Any) -> Any:
    """What a list holds, for `list[T]` and `list[T] | None`; None for another hint."""
    for part in (hint, *typing.get_args(hint)):
        if typing.get_origin(part) is list:
            return typing.get_args(part)[0]
    return None
