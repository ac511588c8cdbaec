"""SBD: masks for the images of PASCAL VOC that have none of their own.

Hariharan et al., "Semantic Contours from Inverse Detectors", ICCV 2011. The masks are MATLAB
files with VOC's class ids and no void pixels.
"""

from pathlib import Path

import numpy as np

from binseg.data.files import Pair
from binseg.errors import BinsegError


def find_sbd(root: Path) -> Path:
    """The folder with img/ and cls/: `root`, or benchmark_RELEASE/dataset in it as unpacked.

    Raises:
        BinsegError: neither is there.
    """
    for folder in (root, root / "benchmark_RELEASE" / "dataset"):
        if (folder / "img").is_dir() and (folder / "cls").is_dir():
            return folder
    raise BinsegError(
        f"{root}: SBD's folders img/ and cls/ are missing, which trainaug needs; run binseg data "
        "prepare voc, or set --data.sbd_root to the folder that holds them"
    )


def sbd_pairs(sbd: Path) -> list[Pair]:
    """All of SBD, its train and its val, by name.

    Raises:
        BinsegError: a list is missing.
    """
    from torchvision.datasets import SBDataset

    pairs = {}
    for image_set in ("train", "val"):
        try:
            files = SBDataset(str(sbd), image_set, mode="segmentation")
        except (OSError, UnicodeDecodeError) as error:
            raise BinsegError(
                f"{sbd / image_set}.txt: missing or unreadable; extract SBD's archive again"
            ) from error
        for image, mask in zip(files.images, files.masks, strict=True):
            if Path(image).name != ".jpg":  # an empty line
                pairs[Path(image).stem] = Pair(Path(image), Path(mask))
    return [pairs[name] for name in sorted(pairs)]


def read_sbd_mask(path: Path) -> np.ndarray:
    """VOC's class ids, uint8 (H, W), from a .mat file of SBD's cls/.

    Raises:
        BinsegError: missing, damaged, or another kind of MATLAB file.
    """
    from scipy.io import loadmat

    try:
        mask = np.asarray(loadmat(path)["GTcls"][0]["Segmentation"][0])
    except FileNotFoundError as error:
        raise BinsegError(f"{path}: no such file; extract SBD's archive again") from error
    except Exception as error:  # the reader raises nearly anything on damaged files
        raise BinsegError(
            f"{path}: not a mask of SBD or damaged; extract SBD's archive again"
        ) from error
    if mask.ndim != 2 or mask.dtype.kind not in "ui":
        raise BinsegError(f"{path}: holds no class ids; extract SBD's archive again")
    return mask
