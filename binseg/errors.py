"""Errors that are meant for the person at the keyboard."""

import difflib
from collections.abc import Iterable

_SHOWN = 100  # characters of what somebody wrote


class BinsegError(Exception):
    """A fault the user can fix: one line that names the file and the remedy.

    The command line prints it without a traceback and exits with `status`.
    """

    status = 1


class BinsegWarning(UserWarning):
    """Something a person should know of, though the work goes on: one line.

    The command line prints it as a note.
    """


def unknown_name(kind: str, name: str, options: Iterable[str]) -> BinsegError:
    """An error for a `name` that is none of `options`, with the nearest one and the whole list."""
    known = sorted(options)
    # a name may come from anywhere: comparing takes the time of both lengths
    name = "".join(character if character.isprintable() else "�" for character in name[:_SHOWN])
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.4)
    hint = f"; did you mean '{near[0]}'?" if near else ""
    return BinsegError(f"unknown {kind} '{name}'{hint} (known: {', '.join(known)})")


def printable(text: str) -> str:
    """The text as every UTF-8 terminal and file takes it: bytes of file names that are no UTF-8,
    which Python keeps as lone surrogates, are written out as `\\udcdf`."""
    return text.encode("utf-8", errors="backslashreplace").decode("utf-8")
