"""CamVid in the folders that SegNet's authors gave it."""

from pathlib import Path

from binseg.data.files import MissingSplitError, Pair, PairedFiles, existing_root
from binseg.data.image_files import images_in
from binseg.data.labels import get_label_table
from binseg.data.pairing import KeyedFile, key_below, pair_up
from binseg.errors import BinsegError


class CamVidDataset(PairedFiles):
    """CamVid in the usual folders: `{split}/NAME.png|jpg` and `{split}annot/NAME.png`.

    Args:
        root: the folder that holds train/, trainannot/, val/, …; as val also one folder of
            images of any name, whose masks are in the folder NAMEannot beside it.
        split: train, val or test.
        strict: raise the first fault of the arrangement; else collect them in `faults`.

    Raises:
        BinsegError: a missing folder or mask, or no images.
    """

    def __init__(self, root: str | Path, split: str, *, strict: bool = True) -> None:
        root = existing_root(root)
        images, masks = root / split, root / f"{split}annot"
        own = root.absolute()
        beside = own.with_name(f"{own.name}annot")
        # as one split only, and never to be trained on
        if split == "val" and not images.is_dir() and beside.is_dir():
            images, masks = root, beside
        for folder in (images, masks):
            if not folder.is_dir():
                kind = MissingSplitError if folder == images else BinsegError
                raise kind(
                    f"{folder}: missing; CamVid needs train/, trainannot/, val/ and valannot/ "
                    "in its root (set --data.root to the folder that holds them)"
                )
        found, others = images_in(images), images_in(masks)
        pairing = pair_up(
            [KeyedFile(path, key_below(path, images)) for path in found.images],
            [KeyedFile(path, key_below(path, masks)) for path in others.images],
            images,
            masks,
        )
        faults = list(dict.fromkeys(pairing.problems.values()))
        if not found.images:
            faults.append(f"{images}: no images in it; add some or check the root")
        super().__init__(
            [Pair(path, pairing.masks[path]) for path in found.images if path in pairing.masks],
            get_label_table("camvid"),
            faults,
            strict,
            left_out=[*found.left_out, *others.left_out, *pairing.left_out],
        )
