"""Compiles the kernels on first use and keeps the result."""

from binseg.errors import BinsegError


class BuildError(BinsegError):
    """The kernels cannot be built or loaded on this machine."""
