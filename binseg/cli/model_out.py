"""Where a command may write a model file."""

from pathlib import Path

from binseg.errors import BinsegError


def check_model_out(out: Path, source: Path) -> None:
    """Refuse, before any work is done, what no model file can be written to.

    Args:
        out: the file to write.
        source: the trained network, which stays.

    Raises:
        BinsegError: another ending, the trained network itself, or no file.
    """
    if out.suffix != ".safetensors":
        raise BinsegError(f"{out}: a model file's name ends in .safetensors; choose such an --out")
    if out.exists() and source.exists() and out.samefile(source):
        raise BinsegError(f"{out}: is the trained network itself; choose another --out")
    if out.exists() and not out.is_file():
        raise BinsegError(f"{out}: not a file; choose another --out")
