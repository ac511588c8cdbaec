"""`binseg completion`: what the shell offers when Tab is pressed."""

import zlib
from argparse import Action, ArgumentParser
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from binseg.atomic import atomic_path
from binseg.cli.commands import COMMANDS
from binseg.cli.help_text import Option, add_option, first_clause
from binseg.shipped import shipped_models
from binseg.shipped_configs import shipped_configs

DATA_SETS = ("camvid", "cityscapes", "folder", "scenes", "voc")


def completion(shell: Literal["bash", "zsh", "fish"], out: Path | None = None) -> int:
    """Print a script that completes commands, options and the names of what is shipped.

    Shells that are opened afterwards read it from these files:

    bash: --out ~/.local/share/bash-completion/completions/binseg

    zsh: --out FOLDER/_binseg, for a FOLDER of $fpath

    fish: --out ~/.config/fish/completions/binseg.fish

    Args:
        shell: bash, zsh or fish.
        out: file to write it into; without it, it goes to the screen.
    """
    import shtab

    script = shtab.complete(_tree(), shell, root_prefix="binseg")
    if out is None:
        print(script)
        return 0
    with atomic_path(out) as temporary:
        temporary.write_text(script + "\n", encoding="utf-8")
    print(out)
    return 0


def _tree() -> ArgumentParser:
    """All commands as one plain parser, which shtab reads."""
    from binseg.cli.main import find
    from binseg.cli.parser import CommandParser

    values = _values()
    root = ArgumentParser("binseg")
    commands = root.add_subparsers(dest="command")
    groups: dict[str, Any] = {}
    for name, command in COMMANDS.items():
        group, _, last = name.rpartition(" ")
        if group and group not in groups:
            summary = f"commands about {group}"
            groups[group] = commands.add_parser(group, help=summary).add_subparsers(dest=group)
        parser = (groups[group] if group else commands).add_parser(last, help=command.summary)
        for option in CommandParser(*find(name), f"binseg {name}").options():
            action = add_option(parser, option, first_clause(option.text))
            _add_values(action, option, values.get(f"{name} {option.key}", values.get(option.key)))
        parser.add_argument("--help-all", action="store_true", help="describe all options")
    return root


def _values() -> dict[str, Sequence[str]]:
    """Names that options take, by the option's key, or by command and key."""
    architectures: list[str] = []
    try:
        from binseg.nn.segmenter import list_models

        architectures = list_models()
    except ModuleNotFoundError:  # without torch none can be trained
        pass
    models = [*shipped_models(), *architectures]
    return {
        "config": list(shipped_configs()),
        "config cp name": list(shipped_configs()),
        "data prepare name": ("voc", "cityscapes"),
        "data.name": DATA_SETS,
        "model.name": architectures,
        "bench network": models,
        "summary network": models,
    }


def _add_values(action: Action, option: Option, names: Sequence[str] | None) -> None:
    """Give shtab what it reads: names, files, or both."""
    import shtab

    if option.is_model:
        names = names or list(shipped_models())
    if names and (option.is_model or option.is_path or option.key == "config"):
        action.complete = _names_or_files(names)  # type: ignore[attr-defined]
    elif names or option.choices:
        action.choices = list(names or option.choices)
    elif option.is_path or option.key == "images":
        action.complete = shtab.FILE  # type: ignore[attr-defined]


def _names_or_files(names: Sequence[str]) -> dict[str, Any]:
    """What shtab calls a completer: these names, and files."""
    words = " ".join(names)
    function = f"_binseg_names_{zlib.crc32(words.encode()):x}"
    bash = f"""{function}() {{
  compgen -W '{words}' -- "$1"
  compgen -f -- "$1"
}}"""
    zsh = f"""{function}() {{
  _alternative 'names:name:({words})' 'files:file:_files'
}}"""
    fish = f"""function {function}
  string split ' ' '{words}'
  __fish_complete_path (commandline -ct)
end"""
    return {
        "bash": function,
        "zsh": function,
        "fish": f"({function})",
        "preamble": {"bash": bash, "zsh": zsh, "fish": fish},
    }
