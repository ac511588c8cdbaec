"""Hugging Face data sets on disk: parquet files with an image and a mask column."""

import importlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from binseg.data.imageio import read_mask
from binseg.data.importing.coco import split_of
from binseg.data.importing.json_files import read_json
from binseg.data.importing.source import AnnotatedImage, Notes, Overlap
from binseg.data.label_table import Color
from binseg.errors import BinsegError

_IMAGE_COLUMNS = ("image", "pixel_values", "img", "photo")
_MASK_COLUMNS = (
    *("label", "annotation", "mask", "segmentation_mask", "labels", "semantic_mask"),
    *("segmentation", "annotated", "label_map"),
)


class HuggingFace:
    """See `Source`."""

    title = "Hugging Face parquet"
    overlap: Overlap = "later"
    covers = True
    colors: tuple[Color, ...] | None = None

    def __init__(self, root: Path) -> None:
        self._files = sorted(root.rglob("*.parquet")) if root.is_dir() else [root]
        self.notes = Notes()
        first = _opened(self._files[0])
        self._image, self._mask, names = _columns(first, self._files[0])
        self.classes = names or _names_beside(root) or ()
        self._rows = [_opened(path).metadata.num_rows for path in self._files]

    def __len__(self) -> int:
        return int(sum(self._rows))

    def __iter__(self) -> Iterator[AnnotatedImage]:
        for path in self._files:
            split = split_of(path) or split_of(path.parent)
            row = 0
            for batch in _opened(path).iter_batches(16, columns=[self._image, self._mask]):
                for record in batch.to_pylist():
                    name = f"{path.stem.split('-of-')[0]}_{row:06d}"
                    row += 1
                    image, mask = (_bytes(record[key]) for key in (self._image, self._mask))
                    if image is None or mask is None:
                        self.notes.add("rows without image or mask: left out", name)
                        continue
                    yield AnnotatedImage(
                        name,
                        image,
                        mask=read_mask(f"{path}: row {row - 1}", content=mask),
                        split=split,
                    )


def _opened(path: Path) -> Any:
    try:
        parquet = importlib.import_module("pyarrow.parquet")
    except ImportError as error:
        raise BinsegError("parquet files need pyarrow: pip install 'binseg[import]'") from error
    try:
        return parquet.ParquetFile(path)
    except Exception as error:  # pyarrow's own errors share no base that is ours to name
        raise BinsegError(
            f"{path}: not a readable parquet file ({str(error).splitlines()[0][:80]}); get it again"
        ) from error


def _columns(file: Any, path: Path) -> tuple[str, str, tuple[str, ...]]:
    """Names of the image's and of the mask's column, and those of the classes."""
    features: dict[str, Any] = {}
    metadata = file.schema_arrow.metadata or {}
    if b"huggingface" in metadata:
        try:
            features = json.loads(metadata[b"huggingface"])["info"]["features"]
        except (ValueError, KeyError, TypeError):
            features = {}
    columns = file.schema_arrow.names
    images = [c for c in columns if features.get(c, {}).get("_type") == "Image"] or [
        c for c in columns if "bytes" in str(file.schema_arrow.field(c).type)
    ]
    image = next((c for c in _IMAGE_COLUMNS if c in images), None)
    mask = next((c for c in _MASK_COLUMNS if c in images), None)
    if image is None or mask is None:
        raise BinsegError(
            f"{path}: no image and mask columns among {', '.join(columns)}; rename them to image "
            "and mask"
        )
    return image, mask, _class_labels(features)


def _class_labels(features: Any) -> tuple[str, ...]:
    """The names of the first ClassLabel in the features."""
    if isinstance(features, dict):
        if features.get("_type") == "ClassLabel":
            return tuple(str(name) for name in features.get("names", ()))
        features = list(features.values())
    if isinstance(features, list):
        for part in features:
            if found := _class_labels(part):
                return found
    return ()


def _names_beside(root: Path) -> tuple[str, ...]:
    """The names in id2label.json, which many data sets have beside their files."""
    folder = root if root.is_dir() else root.parent
    for path in sorted(folder.rglob("id2label.json")):
        names = read_json(path)
        if isinstance(names, dict) and all(str(key).isdigit() for key in names):
            numbers = {int(key): str(value) for key, value in names.items()}
            return tuple(numbers.get(index, f"class_{index}") for index in range(max(numbers) + 1))
    return ()


def _bytes(value: Any) -> bytes | None:
    found = value.get("bytes") if isinstance(value, dict) else value
    return found if isinstance(found, bytes) and found else None
