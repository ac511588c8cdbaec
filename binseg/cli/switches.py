"""Options in every spelling that people use: `--resume`, `--resume=true`, `--resume true`.

The parser knows a switch as `--resume` and `--no_resume`, and a truth value inside a group as
`--latency.int8 true`. Here all spellings become the parser's own, before it reads them.
"""

from collections.abc import Collection, Sequence

_VALUES = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}


def in_parsers_spelling(
    arguments: Sequence[str], switches: Collection[str], truths: Collection[str] = ()
) -> list[str]:
    """The arguments with every switch in the one spelling that the parser takes.

    Args:
        arguments: of a command.
        switches: names of its switches; alone, or followed by a truth value.
        truths: names of options that need a truth value, as in "latency.int8"; alone they mean
            true.

    Returns:
        `--NAME` or `--no_NAME` for switches, `--NAME=true` or `--NAME=false` for truths; all else
        as it was, except that words inside an option's name are joined by "_".
    """
    found: list[str] = []
    place = 0
    while place < len(arguments):
        argument = arguments[place]
        place += 1
        name, joined, value = _split(argument)
        if name is None:
            found.append(argument)
            continue
        positive = name.removeprefix("no_") if name not in switches else name
        takes_value = positive in switches or name in truths
        following = arguments[place] if place < len(arguments) else None
        if takes_value and not joined and (following or "").lower() in _VALUES:
            value, joined = str(following), "="
            place += 1
        on = _VALUES.get(value.lower()) if joined else True
        if positive in switches and on is not None:
            found.append(f"--{positive}" if on is (name == positive) else f"--no_{positive}")
        elif name in truths and (joined or following is None or following.startswith("--")):
            found.append(f"--{name}={value if on is None else str(on).lower()}")
        else:
            found.append(f"--{name}{joined}{value}")
    return found


def is_on(arguments: Sequence[str], switch: str) -> bool:
    """Whether the arguments set a switch, in any spelling; the last one counts."""
    on, off = f"--{switch}", f"--no_{switch}"
    said = [each for each in in_parsers_spelling(arguments, [switch]) if each in (on, off)]
    return said[-1:] == [on]


def value_of(arguments: Sequence[str], option: str) -> str | None:
    """The value of an option in the arguments, in either spelling; the last one counts."""
    found = None
    for place, argument in enumerate(arguments):
        name, joined, value = _split(argument)
        if name == option and joined:
            found = value
        elif name == option and place + 1 < len(arguments):
            found = arguments[place + 1]
    return found


def _split(argument: str) -> tuple[str | None, str, str]:
    """(name, "=" or "", value) of an option; the name is None if the argument is none."""
    if not argument.startswith("--") or argument == "--":
        return None, "", ""
    name, joined, value = argument[2:].partition("=")
    return name.replace("-", "_"), joined, value
