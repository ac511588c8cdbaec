"""What strangers are told of a fault: everything but where files lie on this machine."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from binseg.errors import BinsegError


@contextmanager
def without_folders(*paths: Path) -> Iterator[None]:
    """Faults of the block name each of `paths`, and what lies beside it, without its folder.

    Raises:
        BinsegError: the block's.
    """
    try:
        yield
    except BinsegError as error:
        message = str(error)
        for path in paths:
            message = message.replace(f"{path.parent}{os.sep}", "")
        raise BinsegError(message) from error
