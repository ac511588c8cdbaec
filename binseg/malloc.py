"""Switches of glibc's memory allocator; other C libraries have none and are left alone."""

import ctypes
from contextlib import suppress

# numbers of malloc.h
TRIM_THRESHOLD = -1
"""Bytes that must be free at the end of the heap before they go back to the system."""
MMAP_THRESHOLD = -3
"""Bytes from which a block is a mapping of its own, which goes back when it is freed."""
ARENA_MAX = -8
"""Heaps at most; each thread looks for one that no other is using."""


def set_malloc(option: int, value: int) -> None:
    """Set one of the switches above, for this process."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).mallopt(option, value)
