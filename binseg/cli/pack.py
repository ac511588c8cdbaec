"""`binseg pack`: a trained network to a file of bits."""

import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from binseg.errors import BinsegError

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from binseg.data.config import DataConfig
    from binseg.data.preprocess import Preprocessing

_EXACT = 0.999
"""Share of equal pixels that rest fp32 must reach: less is a fault, not rounding near zero."""

_Pictures = tuple[str, Sequence[Callable[[], "np.ndarray"]]]
"""Where pictures are from, and functions that read them."""


def pack(
    model: Path,
    *,
    out: Path,
    rest: Literal["fp32", "bf16", "int8"] = "fp32",
    calibration: list[Path] | None = None,
    verify: list[Path] | None = None,
    limit: int = 16,
) -> int:
    """Pack a trained network: 1-bit weights as bits, what follows them as integers and constants.

    Compares the packed network's class maps with the trained one's on a few pictures, then writes
    one file that `binseg predict` and `binseg evaluate` open like any other. If the maps differ
    more than rounding can explain, nothing is written and the exit status is 1.

    Args:
        model: float model file (.safetensors), or a run folder, whose best.safetensors is packed.
        out: the file to write (.safetensors).
        rest: arithmetic of what is not binary (stem, head, real 1x1 convolutions): fp32 equals the
            trained network; bf16 and int8 are smaller and faster and cost a little accuracy.
        calibration: pictures, folders and globs on which int8 finds the ranges of its numbers;
            without it, training pictures of the run.
        verify: pictures, folders and globs to compare class maps on; without it, the run's val
            pictures, else those of --calibration, else drawn street scenes.
        limit: pictures to use for each of the two at most, spread evenly.

    Returns:
        0; a network that says something else raises.
    """
    if limit < 1:
        raise BinsegError(f"limit must be at least 1 picture, not {limit}")
    if out.suffix != ".safetensors":
        raise BinsegError(f"{out}: a model file's name ends in .safetensors; choose such an --out")
    source = model / "best.safetensors" if model.is_dir() else model
    if out.exists() and source.exists() and out.samefile(source):
        raise BinsegError(f"{out}: is the trained network itself; choose another --out")
    if out.exists() and not out.is_file():
        raise BinsegError(f"{out}: not a file; choose another --out")
    # seconds of imports that --help does not need
    import torch

    from binseg.packed.agreement import agreement
    from binseg.packed.file import load, save
    from binseg.packed.fold import pack as fold

    loaded = load(source)
    data = _data_of_run(model) if model.is_dir() else None
    given = _files(calibration)
    pictures = _files(verify) or _split(data, "val", lenient=True) or given or _scenes()
    inputs = None
    if rest == "int8":
        found = given or _split(data, "train")
        if found is None:
            raise BinsegError("int8 needs pictures like those it will see: give --calibration")
        print(f"calibrating on {found[0]}")
        inputs = _inputs(found, limit, loaded.preprocessing)
    try:
        packed = fold(loaded.model, rest=rest, calibration=inputs)
    except _PictureError:
        raise
    except BinsegError as error:
        raise BinsegError(f"{source}: {error}") from error
    share = agreement(loaded.model, packed, _inputs(pictures, limit, loaded.preprocessing))
    if rest == "fp32" and share < _EXACT:
        raise BinsegError(
            f"{source}: packed, it gives another class on {100 * (1 - share):.3f} % of the pixels "
            f"of {pictures[0]}; nothing was written: this is a fault of binseg, please report it"
        )
    training = loaded.header.get("training") or {}
    save(out, packed, loaded.labels, loaded.preprocessing, training=training)
    kept = load(out).model.state_dict()
    if not all(torch.equal(kept[name], value) for name, value in packed.state_dict().items()):
        raise BinsegError(f"{out}: does not hold what was written; is the disk sound?")
    before, after = source.stat().st_size, out.stat().st_size
    print(
        f"wrote {out}: {after / 1e6:.2f} MB, 1/{before / after:.1f} of {before / 1e6:.2f} MB "
        f"(rest {rest})"
    )
    print(
        f"class maps equal the trained network's on {100 * share:.3f} % of the pixels of "
        f"{pictures[0]}"
    )
    return 0


class _PictureError(BinsegError):
    """A picture that cannot be read; the message names it."""


def _files(patterns: list[Path] | None) -> _Pictures | None:
    if not patterns:
        return None
    from binseg.data.image_files import find_all_images, left_out_lines
    from binseg.data.imageio import read_image

    found = find_all_images(patterns)
    for line in left_out_lines(found.left_out):
        print(line, file=sys.stderr)
    if not found.images:
        raise BinsegError(f"{patterns[0]}: no image that can be read; see above")
    readers = [lambda path=path: read_image(path) for path in found.images]
    return f"{patterns[0]}{' …' if len(patterns) > 1 else ''}", readers


def _split(data: "DataConfig | None", split: str, *, lenient: bool = False) -> _Pictures | None:
    """One split of a run's data; with `lenient`, None if it is not on this machine."""
    if data is None:
        return None
    try:
        dataset = data.open(split)
    except BinsegError:
        if lenient:
            return None
        raise
    readers = [lambda index=index: dataset[index].image for index in range(len(dataset))]
    return f"{data.name} {split}", readers


def _scenes() -> _Pictures:
    from binseg.data.datasets import ScenesDataset

    scenes = ScenesDataset("val", 16, (144, 192))
    readers = [lambda index=index: scenes[index].image for index in range(len(scenes))]
    return "drawn street scenes", readers


def _inputs(pictures: _Pictures, limit: int, preprocessing: "Preprocessing") -> "Iterator[Tensor]":
    from binseg.packed.agreement import network_input

    readers = pictures[1]
    count = min(limit, len(readers))
    for place in range(count):
        try:
            image = readers[place * len(readers) // count]()
        except BinsegError as error:
            raise _PictureError(str(error)) from error
        yield network_input(image, preprocessing)


def _data_of_run(folder: Path) -> "DataConfig":
    """The data that a run was trained on, by its resolved configuration."""
    import yaml
    from jsonargparse import ArgumentError, ArgumentParser

    from binseg.data.config import DataConfig

    path = folder / "config.yaml"
    try:
        tree = yaml.safe_load(path.read_text(encoding="utf-8"))
        parser = ArgumentParser(exit_on_error=False)
        parser.add_argument("--data", type=DataConfig)
        config: DataConfig = parser.instantiate(parser.parse_object({"data": tree["data"]})).data
    except OSError as error:
        raise BinsegError(f"{path}: cannot be read ({error.strerror}); is it a run?") from error
    except (UnicodeDecodeError, yaml.YAMLError, ArgumentError, KeyError, TypeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise BinsegError(f"{path}: not the configuration of a run ({reason})") from error
    return config
