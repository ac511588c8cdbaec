"""`binseg pack`: a trained network to a file of bits."""

import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from binseg.cli.model_out import check_model_out
from binseg.errors import BinsegError
from binseg.shipped import trainable

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from binseg.compiler.verification import Agreement
    from binseg.data.config import DataConfig
    from binseg.data.preprocess import Preprocessing

_CALIBRATION = 16
"""Images that int8 finds its ranges on, at most."""

_Images = tuple[str, Sequence[Callable[[], "np.ndarray"]]]
"""Where images are from, and functions that read them."""


def pack_command(
    model: Path,
    *,
    out: Path,
    other_layers: Literal["fp32", "bf16", "int8"] = "fp32",
    calibration: list[Path] | None = None,
    verify: list[Path] | None = None,
    limit: int = 64,
    min_agreement: float | None = None,
) -> int:
    """Pack a trained network: 1-bit weights as bits, what follows them as integers and constants.

    Compares the packed network's class maps with the trained one's, then writes one file that
    `binseg predict` and `binseg evaluate` open like any other. If the maps differ too much, nothing
    is written and the exit status is 1; a network that is itself so sensitive that a change of its
    input by a millionth does as much is told apart from a fault.

    Args:
        model: trained network: float model file (.safetensors), run folder, hf:user/name or
            shipped name.
        out: the file to write (.safetensors).
        other_layers: arithmetic of the layers that are not binary (stem, head, real 1x1
            convolutions): fp32 equals the trained network; bf16 and int8 are smaller and faster and
            cost a little accuracy.
        calibration: images, folders and globs on which int8 finds the ranges of its numbers;
            without it, training images of the run.
        verify: images, folders and globs to compare class maps on; without it, the run's val
            images, else those of --calibration, else drawn street scenes.
        limit: images to compare on at most, spread evenly; int8 calibrates on 16 of them at most.
        min_agreement: share of the pixels whose class must be the same; without it 0.999 for
            fp32, 0.98 for bf16, 0.95 for int8.

    Returns:
        0; a network whose class maps differ too much raises.
    """
    if limit < 1:
        raise BinsegError(f"limit must be at least 1 image, not {limit}")
    if min_agreement is not None and not 0 <= min_agreement <= 1:
        raise BinsegError(f"min_agreement must lie in 0 to 1, not {min_agreement:g}")
    source = trainable(model)
    check_model_out(out, source)
    # seconds of imports that --help does not need
    from binseg.compiler.pack import pack as compile_and_pack
    from binseg.compiler.packed import PackedSegmenter
    from binseg.compiler.verification import MIN_AGREEMENT
    from binseg.compiler.verification import verify as compare
    from binseg.loaded import load, save

    loaded = load(source)
    if isinstance(loaded.model, PackedSegmenter):
        raise BinsegError(f"{source}: the network is packed already")
    data = _data_of_run(model) if model.is_dir() else None
    given = _files(calibration)
    images = _files(verify) or _split(data, "val", lenient=True) or given or _scenes()
    inputs = None
    if other_layers == "int8":
        found = given or _split(data, "train")
        if found is None:
            raise BinsegError("int8 needs images like those it will see: give --calibration")
        print(f"calibrating on {found[0]}")
        inputs = _inputs(found, min(limit, _CALIBRATION), loaded.preprocessing)
    try:
        packed = compile_and_pack(
            loaded.model,
            other_layers=other_layers,
            calibration=inputs,
            preprocessing=loaded.preprocessing,
        )
    except _ImageError:
        raise
    except BinsegError as error:
        raise BinsegError(f"{source}: {error}") from error
    minimum = MIN_AGREEMENT[other_layers] if min_agreement is None else min_agreement
    agreement = compare(
        loaded.model,
        packed,
        lambda: _inputs(images, limit, loaded.preprocessing),
        minimum=minimum,
    )
    if agreement.equal < minimum and not (other_layers == "fp32" and agreement.is_sensitivity):
        raise BinsegError(_refusal(source, images[0], other_layers, agreement, minimum))
    training = loaded.header.get("training") or {}
    save(out, packed, loaded.labels, loaded.preprocessing, training=training)
    _check_written(out, packed)
    before, after = source.stat().st_size, out.stat().st_size
    print(
        f"wrote {out}: {after / 1e6:.2f} MB, {before / after:.0f}× smaller than the float file "
        f"({before / 1e6:.2f} MB); non-binary layers in {other_layers}"
    )
    print(
        f"class maps equal the trained network's on {100 * agreement.equal:.3f} % of the pixels of "
        f"{agreement.images} images ({images[0]}; at least {100 * minimum:g} % are required)"
    )
    if agreement.own is not None and agreement.equal < minimum:
        print(
            "note: the network is sensitive: a change of its input by a millionth alone changes "
            f"{100 * (1 - agreement.own):.3f} % of its own class map, as rounding does"
        )
    return 0


def _refusal(
    source: Path, where: str, other_layers: str, agreement: "Agreement", minimum: float
) -> str:
    different = (
        f"{source}: packed with {other_layers}, it gives another class on "
        f"{100 * (1 - agreement.equal):.3f} % of the pixels of {agreement.images} images ({where})"
    )
    own = "" if agreement.own is None else f"{100 * (1 - agreement.own):.3f} %"
    if other_layers == "fp32":
        return (
            f"{different}; the trained network itself changes {own} when its input changes by a "
            "millionth, so this is a fault of binseg; nothing was written, please report it"
        )
    return (
        f"{different}, more than {100 * (1 - minimum):g} %; nothing was written: choose "
        "--other-layers fp32 or more --calibration images, or accept it with --min-agreement "
        f"{int(100 * agreement.equal) / 100:.2f} (the trained network itself changes {own} when "
        "its input changes by a millionth)"
    )


def _check_written(out: Path, packed: object) -> None:
    """That the file holds the program."""
    from binseg.program.file import read_program

    program, _ = read_program(out)
    own = packed.program  # type: ignore[attr-defined]
    same = program.to_json() == own.to_json() and program.tensors.keys() == own.tensors.keys()
    if not same or not all(
        (program.tensors[name] == tensor).all() for name, tensor in own.tensors.items()
    ):
        raise BinsegError(f"{out}: does not hold what was written; is the disk sound?")


class _ImageError(BinsegError):
    """An image that cannot be read; the message names it."""


def _files(patterns: list[Path] | None) -> _Images | None:
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


def _split(data: "DataConfig | None", split: str, *, lenient: bool = False) -> _Images | None:
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


def _scenes() -> _Images:
    from binseg.data.datasets import ScenesDataset

    scenes = ScenesDataset("val", 16, (144, 192))
    readers = [lambda index=index: scenes[index].image for index in range(len(scenes))]
    return "drawn street scenes", readers


def _inputs(images: _Images, limit: int, preprocessing: "Preprocessing") -> "Iterator[Tensor]":
    from binseg.data.preprocess import network_input

    readers = images[1]
    count = min(limit, len(readers))
    for place in range(count):
        try:
            image = readers[place * len(readers) // count]()
        except BinsegError as error:
            raise _ImageError(str(error)) from error
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
