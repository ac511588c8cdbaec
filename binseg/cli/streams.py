"""Output streams that take any text, and an orderly end at SIGTERM."""

import codecs
import io
import os
import signal
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TextIO

from binseg.errors import BinsegWarning

TERMINATED = 143  # 128 + SIGTERM, as shells count

_PLAIN = {
    "…": "...", "–": "-", "—": "-", "−": "-", "×": "x", "·": "*", "→": "->", "±": "+-",
    "≥": ">=", "≤": "<=", "“": '"', "”": '"', "’": "'", "²": "2", "³": "3", "°": " deg",
}  # fmt: skip


def show_any_text() -> None:
    """Let stdout and stderr show what their encoding lacks in other signs, instead of failing.

    An ASCII locale has no "×"; a file's name may hold bytes that are text in no encoding.
    Warnings for people are shown as one line.
    """
    codecs.register_error("binseg", _replaced)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="binseg")
    warnings.filterwarnings("always", category=BinsegWarning)
    # of damaged files, which are refused in words or read all the same
    warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")
    if warnings.showwarning is not _show_warning:
        global _show_other
        _show_other = warnings.showwarning
        warnings.showwarning = _show_warning


def _replaced(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    text = error.object[error.start : error.end]
    plain = (_PLAIN.get(sign) or sign.encode("ascii", "backslashreplace").decode() for sign in text)
    return "".join(plain), error.end


_show_other = warnings.showwarning


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    if issubclass(category, BinsegWarning):
        print(f"binseg: note: {message}", file=file or sys.stderr, flush=True)
    else:
        _show_other(message, category, filename, lineno, file, line)


@contextmanager
def terminated_in_order() -> Iterator[None]:
    """Inside the block SIGTERM ends the program as Ctrl-C does: temporary files are removed."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    process = os.getpid()

    def end(number: int, frame: FrameType | None) -> None:
        if os.getpid() != process:  # a forked worker has nothing to put in order
            os._exit(TERMINATED)
        raise SystemExit(TERMINATED)

    before = signal.getsignal(signal.SIGTERM)
    if before is not signal.SIG_DFL:  # somebody else has plans for it
        yield
        return
    signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
