"""Augmentation pipelines of one's own, in albumentations' serialization.

What `albumentations.save(pipeline, "pipeline.yaml", data_format="yaml")` writes. Masks stay masks:
they are never interpolated, and what a transform fills is ignored.
"""

import inspect
import os
import random
import warnings
from collections.abc import Iterator
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from binseg.data.labels import IGNORE
from binseg.errors import BinsegError

_LARGEST = 1 << 20  # bytes of a file
_NAME = "__class_fullname__"


class Pipeline:
    """A pipeline from a file, checked on a made-up crop.

    Args:
        path: YAML or JSON.
        crop: (height, width) of the crops that it changes, in pixels.

    Raises:
        BinsegError: the file cannot be read or holds no pipeline of albumentations; a transform is
            unknown, has an unknown option or an impossible value, interpolates masks, or changes
            the crop's size. The message names file, transform and remedy.
    """

    def __init__(self, path: Path, crop: tuple[int, int]) -> None:
        self.path = path
        tree = _read(path)
        for transform in _transforms(tree, path):
            _keep_masks(transform, path)
        self._pipeline = _built(tree, path)
        self._check(crop)

    def __call__(
        self, image: np.ndarray, labels: np.ndarray, generator: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        """A random variant of uint8 (h, w, 3) and uint8 (h, w) train ids."""
        # two 64-bit words: one for its numpy generator, one for its `random.Random`
        first, second = generator.integers(2**63, size=2).tolist()
        self._pipeline.set_random_state(
            np.random.Generator(np.random.PCG64(first)), random.Random(second)
        )
        changed = self._pipeline(image=image, mask=labels)
        return changed["image"], changed["mask"]

    def _check(self, crop: tuple[int, int]) -> None:
        """A few variants of a crop have to be crops."""
        rows, columns = np.mgrid[: crop[0], : crop[1]]
        labels = np.where((rows // 8 + columns // 8) % 2, 7, 100).astype(np.uint8)
        image = np.stack([rows % 256, columns % 256, labels], axis=2).astype(np.uint8)
        for seed in range(4):
            try:
                found, mask = self(image, labels, np.random.default_rng(seed))
            except Exception as error:  # albumentations raises what the values happen to hit
                raise BinsegError(
                    f"{self.path}: fails on a crop of {crop[0]} × {crop[1]} ({_line(error)}); "
                    "correct its values"
                ) from error
            kinds = {(found.dtype, found.shape), (mask.dtype, (*mask.shape, 3))}
            if kinds != {(np.dtype(np.uint8), image.shape)}:
                raise BinsegError(
                    f"{self.path}: makes uint8 {crop[0]} × {crop[1]} into {found.dtype} "
                    f"{' × '.join(map(str, found.shape[:2]))}; remove what crops, resizes, "
                    "normalizes or makes tensors (data.crop says the size)"
                )
            if foreign := sorted({*np.unique(mask).tolist()} - {7, 100, IGNORE}):
                raise BinsegError(
                    f"{self.path}: makes ids {foreign[:3]} in a mask of others; remove the "
                    "transform that mixes or interpolates masks"
                )


def _read(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            text = file.read(_LARGEST + 1)
    except OSError as error:
        raise BinsegError(
            f"{path}: cannot be read ({error.strerror}); check data.augment.extra"
        ) from error
    try:
        tree = yaml.safe_load(text) if len(text) <= _LARGEST else None  # JSON is YAML, too
    except (yaml.YAMLError, UnicodeDecodeError, ValueError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f" near line {mark.line + 1}" if mark else ""
        raise BinsegError(f"{path}: not valid YAML{where}; correct the file") from error
    if not isinstance(tree, dict) or not isinstance(tree.get("transform"), dict):
        raise BinsegError(
            f"{path}: no pipeline of albumentations; write it by "
            'albumentations.save(pipeline, path, data_format="yaml")'
        )
    if tree["transform"].get(_NAME) != "Compose":
        tree["transform"] = {_NAME: "Compose", "transforms": [tree["transform"]], "p": 1.0}
    return tree


def _transforms(tree: dict[str, Any], path: Path) -> Iterator[dict[str, Any]]:
    """All transforms in a pipeline, compositions among them."""
    rest: list[Any] = [tree["transform"]]
    while rest:
        transform = rest.pop()
        if not isinstance(transform, dict) or not isinstance(transform.get(_NAME), str):
            raise BinsegError(
                f"{path}: a transform has no {_NAME}; write the file by albumentations.save"
            )
        yield transform
        inner = transform.get("transforms", [])
        if not isinstance(inner, list):
            raise BinsegError(
                f"{path}: {transform[_NAME]}: transforms is no list; correct the file"
            )
        rest += inner


def _keep_masks(transform: dict[str, Any], path: Path) -> None:
    """Refuse masks that are interpolated, and have what is filled ignored."""
    if transform.get("mask_interpolation", 0) != 0:
        raise BinsegError(
            f"{path}: {transform[_NAME]}: mask_interpolation {transform['mask_interpolation']} "
            "would mix class ids; write 0 (nearest)"
        )
    # albumentations writes its default, class 0
    if "fill_mask" in transform and transform["fill_mask"] is not None:
        transform["fill_mask"] = IGNORE


def _built(tree: dict[str, Any], path: Path) -> Any:
    # else importing albumentations asks the network for a newer version
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
    import albumentations as A
    from albumentations.core.serialization import SERIALIZABLE_REGISTRY, shorten_class_name

    for transform in _transforms(tree, path):
        name = transform[_NAME]
        if shorten_class_name(name) not in SERIALIZABLE_REGISTRY:
            near = get_close_matches(name, SERIALIZABLE_REGISTRY, n=1, cutoff=0.4)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise BinsegError(
                f"{path}: {name[:60]!r} is no transform of albumentations {A.__version__}{hint}"
            )
        _set_fill(transform, SERIALIZABLE_REGISTRY[shorten_class_name(name)])
    # the innermost first, so that a message names the one that is wrong
    for transform in reversed(list(_transforms(tree, path))):
        if "transforms" not in transform:
            _instance(A, transform, path)
    return _instance(A, tree["transform"], path)


def _instance(library: Any, transform: dict[str, Any], path: Path) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)  # an unknown option is only warned of
        try:
            return library.from_dict({"transform": transform})
        except Exception as error:  # pydantic's, and what the values happen to hit
            raise BinsegError(
                f"{path}: {transform[_NAME]}: {_line(error)}; correct the file"
            ) from error


def _set_fill(transform: dict[str, Any], kind: type) -> None:
    """Where the file is silent about what a transform fills, masks are filled with 255."""
    parameters = inspect.signature(kind).parameters
    default = parameters["fill_mask"].default if "fill_mask" in parameters else None
    if default is not None and "fill_mask" not in transform:
        transform["fill_mask"] = IGNORE


def _line(error: Exception) -> str:
    """The words of an error in one short line."""
    text = " ".join(str(error).split())
    return text if len(text) < 160 else f"{text[:160]} …"
