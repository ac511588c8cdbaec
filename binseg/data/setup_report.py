"""Reports of getting a data set ready, and the folders of those that are not downloaded."""

from typing import NamedTuple

from binseg.data.datasets import DATASETS
from binseg.errors import BinsegError, unknown_name


class Preparation(NamedTuple):
    """One line for each thing that is ready, and for each that is missing, with its remedy."""

    found: list[str]
    missing: list[str]


_LAYOUTS = {
    "camvid": "put its images into ROOT/train/ and ROOT/val/, masks of the same names into "
    "ROOT/trainannot/ and ROOT/valannot/ (ids 0 to 10, void 11)",
    "folder": "put images into ROOT/images/, masks of the same names into ROOT/masks/ and a "
    "labels.yaml into ROOT",
    "scenes": "its images are drawn on the fly, no files are needed",
}


def refuse_to_prepare(name: str) -> BinsegError:
    """Says what folder a data set wants that nobody downloads or checks, or that there is none."""
    if name not in DATASETS:
        return unknown_name("data set", name, DATASETS)
    return BinsegError(
        f"'{name}' is not prepared by binseg: {_LAYOUTS[name]}; then look for faults with "
        f"binseg data check --data.name {name} --data.root ROOT"
    )
