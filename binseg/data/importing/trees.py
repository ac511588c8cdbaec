"""Trees like PASCAL VOC's and Cityscapes', whose classes may be others."""

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from binseg.data.image_files import images_in
from binseg.data.imageio import ColorMaskError, read_image, read_mask
from binseg.data.importing.coco import split_of
from binseg.data.importing.color_masks import LOSSY, ids_of_colors, is_lossy
from binseg.data.importing.found_images import ImageIndex
from binseg.data.importing.source import AnnotatedImage, Notes, Overlap
from binseg.data.label_table import Color, LabelTable
from binseg.data.labels import get_label_table
from binseg.errors import BinsegError


class MaskTree:
    """See `Source`: masks of ids, by a table of the classes.

    Args:
        title: of the layout.
        masks: mask file → (stem of its image, split).
        table: the classes; None: they follow from the ids.
        images: where the images are.
    """

    overlap: Overlap = "later"
    covers = True

    def __init__(
        self,
        title: str,
        masks: Mapping[Path, tuple[str, str | None]],
        table: LabelTable | None,
        images: ImageIndex,
    ) -> None:
        self.title, self._masks, self._table = title, masks, table
        images.remove(masks)
        self._images = images
        self.classes = table.names if table else ()
        self.colors: tuple[Color, ...] | None = table.palette if table else None
        self.notes = Notes()

    def __len__(self) -> int:
        return len(self._masks)

    def __iter__(self) -> Iterator[AnnotatedImage]:
        for path, (stem, split) in self._masks.items():
            image = self._images.find(stem)
            if image is None:
                self.notes.add("masks without their image: left out (see --images)", path.stem)
                continue
            if is_lossy(path):
                self.notes.add(LOSSY, path.name)
                continue
            mask = self._ids(path)
            yield AnnotatedImage(stem, image, size=mask.shape, mask=mask, split=split)

    def _ids(self, path: Path) -> np.ndarray:
        try:
            raw = read_mask(path)
        except ColorMaskError:
            if self._table is None:
                raise
            ids, strange = ids_of_colors(read_image(path), self._table.palette)
            if strange:
                self.notes.add("masks with pixels of no class's colour: ignored (255)", path.stem)
            return ids
        return raw if self._table is None else self._table.encode(raw, path)


def voc_tree(root: Path, images: ImageIndex, table: LabelTable | None) -> MaskTree:
    """JPEGImages/, SegmentationClass/ and ImageSets/Segmentation/, wherever they are below."""
    folder = next(iter(sorted(root.rglob("SegmentationClass"))))
    splits: dict[str, str | None] = {}
    for listed in sorted((folder.parent / "ImageSets" / "Segmentation").glob("*.txt")):
        split = split_of(listed)
        if split and listed.stem in ("train", "val", "test"):
            splits |= dict.fromkeys(listed.read_text(encoding="utf-8-sig").split(), split)
    masks = {path: (path.stem, splits.get(path.stem)) for path in images_in(folder).images}
    if not masks:
        raise BinsegError(f"{folder}: no masks; unpack them")
    if table is None and "VOC" in folder.parent.name:
        table = get_label_table("voc")
    return MaskTree("a tree like PASCAL VOC's", masks, table, images)


def cityscapes_tree(root: Path, images: ImageIndex, table: LabelTable | None) -> MaskTree:
    """leftImg8bit/SPLIT/CITY/…_leftImg8bit.png and gtFine/SPLIT/CITY/…_labelIds.png."""
    masks: dict[Path, tuple[str, str | None]] = {}
    for path in sorted(root.rglob("*_labelIds.png")):
        start = path.stem.rsplit("_gt", 1)[0]
        splits = [found for part in path.parts[:-1] if (found := split_of(Path(part)))]
        masks[path] = (f"{start}_leftImg8bit", splits[-1] if splits else None)
    if not masks:
        raise BinsegError(f"{root}: no *_labelIds.png below it; unpack gtFine")
    return MaskTree(
        "a tree like Cityscapes'", masks, table or get_label_table("cityscapes"), images
    )
