"""Zip archives of annotations, unpacked without trust."""

import shutil
import zipfile
from pathlib import Path

from binseg.errors import BinsegError


def unzip(archive: Path, folder: Path) -> None:
    """Unpack an archive into a folder; nothing is written outside it.

    Raises:
        BinsegError: no sound archive, names that lead outside, or less disk than it needs.
    """
    try:
        with zipfile.ZipFile(archive) as opened:
            entries = opened.infolist()
            inside = folder.resolve()
            for entry in entries:
                if not (inside / entry.filename).resolve().is_relative_to(inside):
                    raise BinsegError(
                        f"{archive}: holds '{entry.filename[:80]}', outside of itself"
                    )
            needed, free = sum(entry.file_size for entry in entries), shutil.disk_usage(folder).free
            if needed > free:
                raise BinsegError(
                    f"{archive}: needs {needed / 1e9:.1f} GB unpacked, {folder.parent} has "
                    f"{free / 1e9:.1f} GB; unpack it elsewhere and give the folder"
                )
            opened.extractall(folder)
    except (zipfile.BadZipFile, OSError, EOFError, NotImplementedError, RuntimeError) as error:
        raise BinsegError(
            f"{archive}: cannot be unpacked ({str(error)[:80]}); download it again"
        ) from error
