"""Predictions as files, in the form that a benchmark's server takes."""

from pathlib import Path

import numpy as np
from PIL import Image

from binseg.atomic import atomic_path
from binseg.data.imageio import write_mask
from binseg.data.labels import IGNORE, Color, LabelTable, get_label_table
from binseg.errors import BinsegError


class Export:
    """Writes class maps in the raw ids of their data set, each file whole or not at all.

    - voc: results/VOC2012/Segmentation/comp6_SPLIT_cls/NAME.png, palette PNGs of 0 to 20, as the
      devkit's VOCinit.m names them (comp6: trained on more than VOC's own images).
    - cityscapes: CITY_SEQUENCE_FRAME_pred_labelIds.png, grey PNGs of labelIds, as
      cityscapesScripts' getPrediction finds them.
    - any other data set: NAME.png, grey PNGs.

    Args:
        folder: made if missing; files of an earlier export are overwritten.
        data: the data set's name, as in `DataConfig`.
        split: train, val or test.
        labels: the classes of the predictions.
    """

    def __init__(self, folder: str | Path, data: str, split: str, labels: LabelTable) -> None:
        self.folder = Path(folder)
        self._labels = labels
        self._palette: tuple[Color, ...] | None = None
        self._ending = ".png"
        self._every_pixel = data in ("voc", "cityscapes")
        if data == "voc":
            self.folder = self.folder / f"results/VOC2012/Segmentation/comp6_{split}_cls"
            self._palette = get_label_table("voc").palette
        elif data == "cityscapes":
            self._ending = "_pred_labelIds.png"

    def path(self, name: str) -> Path:
        """The file of the image called `name`."""
        return self.folder / f"{name}{self._ending}"

    def write(self, name: str, class_map: np.ndarray) -> None:
        """Write an image's prediction.

        Args:
            name: of the image.
            class_map: HW uint8 train ids, of the label's size.

        Raises:
            BinsegError: the file cannot be written, or a pixel without a class in a benchmark's.
        """
        if self._every_pixel and (class_map == IGNORE).any():
            raise BinsegError(
                f"{name}: the prediction holds pixels without a class ({IGNORE}), which the "
                "benchmark does not take; give every pixel a class"
            )
        raw = self._labels.decode(class_map)
        if raw.dtype == np.uint8:
            write_mask(self.path(name), raw, self._palette)
            return
        with atomic_path(self.path(name)) as temporary:
            Image.fromarray(raw).save(temporary, format="PNG")
