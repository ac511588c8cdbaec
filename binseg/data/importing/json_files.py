"""JSON files of other tools, read with faults in words."""

import json
from pathlib import Path
from typing import Any

from binseg.errors import BinsegError

_MOST_BYTES = 2 << 30


def read_json(path: Path) -> Any:
    """The value that a JSON file holds.

    Raises:
        BinsegError: it cannot be read, is too large, or is not JSON.
    """
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise BinsegError(f"{path}: more than 2 GB of JSON; split it")
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise BinsegError(f"{path}: cannot be read ({error.strerror or error})") from error
    except (ValueError, RecursionError) as error:
        raise BinsegError(f"{path}: not valid JSON ({str(error)[:80]}); export it again") from error


def peek_json(path: Path, most: int = 4096) -> str:
    """The first characters of a file, to tell formats apart."""
    try:
        with path.open(encoding="utf-8-sig", errors="replace") as file:
            return file.read(most)
    except OSError:
        return ""
