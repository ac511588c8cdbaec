"""The experiments' configurations that come with binseg: `camvid/groupnet18_bpac` and others.

In a source checkout they are `configs/`; a wheel has them in the package.
"""

import os
from pathlib import Path

from binseg.errors import unknown_name

_PLACES = (Path(__file__).parent / "configs", Path(__file__).parents[1] / "configs")
_SUFFIX = ".yaml"


def shipped_configs() -> dict[str, Path]:
    """Name → file, sorted by name."""
    folder = next((place for place in _PLACES if place.is_dir()), None)
    if folder is None:
        return {}
    files = sorted(folder.rglob(f"*{_SUFFIX}"))
    return {path.relative_to(folder).with_suffix("").as_posix(): path for path in files}


def config_file(name: str) -> Path:
    """The file of a configuration.

    Raises:
        BinsegError: there is none of this name; says the nearest.
    """
    name = os.fspath(name).removesuffix(_SUFFIX).removeprefix("configs/")
    known = shipped_configs()
    if name not in known:
        raise unknown_name("configuration", name, known)
    return known[name]
