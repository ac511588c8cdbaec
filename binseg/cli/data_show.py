"""`binseg data show`: samples as a network sees them."""

from pathlib import Path
from typing import Literal

from binseg.data.config import DataConfig
from binseg.errors import BinsegError


def data_show(
    out: Path,
    data: DataConfig = DataConfig(),  # noqa: B008 - the parser only reads its fields
    count: int = 12,
    split: Literal["train", "val", "test"] = "train",
    epoch: int = 0,
) -> int:
    """Write samples as a training sees them: `binseg data show --config configs/… --out DIR`.

    Each PNG has the image, the same image under the colours of its labels, and a legend;
    sheet.png has them all. Training samples are the first ones of an epoch, changed and cropped
    with the training's own seeds; pixels outside the image have no label.

    Args:
        out: folder for the images; files of an earlier call are overwritten.
        data: the data of the training.
        count: samples, at least 1.
        split: train (changed and cropped), val or test (as large as they are when scored).
        epoch: epoch of the training, from 0; it decides order and changes.
    """
    for name, value, minimum in (("count", count, 1), ("epoch", epoch, 0)):
        if value < minimum:
            raise BinsegError(f"{name} must be at least {minimum}, not {value}")
    # seconds of imports that a wrong option need not wait for
    from binseg.training.sample_pictures import write_samples

    for path in write_samples(data, split, out, count=count, epoch=epoch):
        print(path)
    return 0
