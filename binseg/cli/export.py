"""`binseg export`: a trained network as a file of another tool."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from binseg.errors import BinsegError
from binseg.shipped import resolve, trainable

if TYPE_CHECKING:
    import numpy as np

    from binseg.data.preprocess import Preprocessing
    from binseg.export.compare import Difference, Logits
    from binseg.loaded import LoadedModel

_SMALL = (97, 131)
_ENOUGH = 0.999
"""Share of equal pixels below which a float file is not what it was made of."""


def export(
    model: list[Path],
    *,
    out: Path,
    format: Literal["onnx", "onnx-int8", "openvino-int8", "pt2", "page"] = "onnx",
    size: tuple[int, int] | None = None,
    calibration: list[Path] | None = None,
    limit: int = 40,
    examples: list[Path] | None = None,
) -> int:
    """Write a trained network for another runtime, run the file again and compare.

    Args:
        model: model file, run folder, hf:user/name or shipped name: float networks, for pt2 and
            pages packed ones; a page offers as many as are given.
        out: the file to write (.onnx, .xml for OpenVINO, or .pt2). For a page: a folder for a
            static host, or a file ending in .html that holds everything.
        format: onnx (float32, any size and batch), onnx-int8 or openvino-int8 (8 bits, of
            full-precision networks), pt2 (a packed network for torch.export.load, of one size and
            any batch), or page (a web page that runs packed networks in the browser).
        size: height and width in pixels that a pt2 file takes; without it, those of a 640×480 image
            at the model's short side.
        calibration: images, folders and globs on which 8 bits find the ranges of their numbers.
        limit: images to calibrate on, at most.
        examples: images that a page offers; it begins with the first.
    """
    if format == "page":
        from binseg.export.page import write_page

        written = write_page(model, out, examples or ())
        print(f"wrote {out}: {written / 1e6:.2f} MB")
        return 0
    if len(model) > 1 or examples:
        raise BinsegError(
            f"{format} takes one model and no --examples; those are for --format page"
        )
    return _export_one(model[0], out, format, size, calibration, limit)


def _export_one(
    model: Path,
    out: Path,
    format: Literal["onnx", "onnx-int8", "openvino-int8", "pt2"],
    size: tuple[int, int] | None,
    calibration: list[Path] | None,
    limit: int,
) -> int:
    from tempfile import TemporaryDirectory

    from binseg.compiler.packed import PackedSegmenter
    from binseg.export.onnx_file import quantize_onnx, write_onnx
    from binseg.loaded import load

    source = model if format == "pt2" else trainable(model)
    suffix = {"openvino-int8": ".xml", "pt2": ".pt2"}.get(format, ".onnx")
    if out.suffix != suffix:
        raise BinsegError(f"{out}: {format} files end in {suffix}; rename --out")
    if size is not None and format != "pt2":
        raise BinsegError(f"{format} files take images of any size; leave --size out")
    loaded = load(source)
    if format == "pt2":
        return _pt2(loaded, source, out, size)
    if isinstance(loaded.model, PackedSegmenter):
        raise BinsegError(
            f"{source}: a packed network has no float weights left; give the float file that it "
            "was packed from"
        )
    binary = _is_binary(loaded.model)
    if format != "onnx" and binary:
        raise BinsegError(
            f"{source}: its weights have 1 bit already; 8 bits are for full-precision networks "
            "(its twin, for example)"
        )
    images = _images(calibration, limit, loaded.preprocessing) if calibration else []
    terms = {"terms": str(loaded.header["training"]["terms"])} if _terms(loaded.header) else {}
    with TemporaryDirectory(prefix="binseg-export-") as folder:
        float_file = out if format == "onnx" else Path(folder) / "float.onnx"
        write_onnx(float_file, loaded.model, loaded.labels, loaded.preprocessing, notes=terms)
        if format == "onnx-int8":
            quantize_onnx(float_file, out, images)
        elif format == "openvino-int8":
            from binseg.export.openvino_file import quantized, write_openvino

            write_openvino(out, quantized(float_file, images))
    found = _difference(out, loaded.model, loaded.preprocessing, images)
    if format == "onnx" and found.equal < _ENOUGH:
        out.unlink()
        raise BinsegError(
            f"{out}: gives another class on {1 - found.equal:.2%} of the pixels; it was removed: "
            "please report this"
        )
    _print(out, source, found)
    if binary:
        print(
            "ONNX has no 1-bit operators: this file computes ±1 in float32, as slow as any network "
            "of its shape. For speed and size, ship what `binseg pack` writes."
        )
    return 0


def _pt2(loaded: "LoadedModel", source: Path, out: Path, size: tuple[int, int] | None) -> int:
    """A packed network as torch's exported program."""
    from binseg.compiler.packed import PackedSegmenter
    from binseg.data.scenes import draw_scene
    from binseg.export.compare import compare
    from binseg.export.pt2_file import read_pt2, write_pt2

    network, preprocessing = loaded.model, loaded.preprocessing
    if not isinstance(network, PackedSegmenter):
        raise BinsegError(
            f"{source}: a float network; pt2 files hold packed ones: run `binseg pack {source}` "
            "first (torch.export takes the float network as any other)"
        )
    size = size or preprocessing.target_size(480, 640)
    if not all(32 <= side <= 4096 for side in size):
        raise BinsegError(f"--size {size[0]} × {size[1]}: give 32 to 4096 pixels a side")
    write_pt2(out, network, loaded.labels, preprocessing, size)
    drawn = [draw_scene(0, index, size).image for index in range(3)]
    found = compare(network, preprocessing, read_pt2(out), [drawn[:1], drawn[1:]])
    if found.equal < _ENOUGH:
        out.unlink()
        raise BinsegError(
            f"{out}: gives another class on {1 - found.equal:.2%} of the pixels; it was removed: "
            "please report this"
        )
    _print(out, source, found)
    print(
        f"it takes uint8 (N, 3, {size[0]}, {size[1]}) for any N, and needs binseg's operators: "
        "`import binseg.program.cuda.network`, then torch.export.load. On a CPU these are slow "
        "references; there `binseg predict` runs the packed file itself."
    )
    return 0


def _print(out: Path, source: Path, found: "Difference") -> None:
    files = [out, out.with_suffix(".bin")] if out.suffix == ".xml" else [out]
    size = sum(path.stat().st_size for path in files)
    source_size = resolve(source).stat().st_size
    kind = "packed" if out.suffix == ".pt2" else "float"
    print(f"wrote {out}: {size / 1e6:.2f} MB ({kind} file: {source_size / 1e6:.2f} MB)")
    print(
        f"run again ({', '.join(found.runs)}): {found.equal:.3%} of the pixels have the same "
        f"class, logits differ by {found.largest:.2g} at most (they reach {found.scale:.2g})"
    )


def _difference(
    out: Path, network: object, preprocessing: "Preprocessing", images: Sequence["np.ndarray"]
) -> "Difference":
    """The written file beside the network: two images at once and one of another size."""
    from binseg.data.scenes import draw_scene
    from binseg.export.compare import compare

    drawn = [draw_scene(0, index, (144, 192)).image for index in range(2)]
    pair = [image for image in images[:2] if image.shape == images[0].shape]
    batches = [pair or drawn, [draw_scene(0, 2, _SMALL).image]]
    return compare(network, preprocessing, _runner(out), batches)  # type: ignore[arg-type]


def _runner(out: Path) -> "Logits":
    import numpy as np

    if out.suffix == ".xml":
        from binseg.export.openvino_file import compiled

        scores = compiled(out, threads=1)
        return lambda images: np.stack([scores(image).copy() for image in images])
    from binseg.export.onnx_file import INPUT, as_input, session

    opened = session(out)
    return lambda images: np.asarray(opened.run(None, {INPUT: as_input(images)})[0])


def _images(patterns: list[Path], limit: int, preprocessing: "Preprocessing") -> list["np.ndarray"]:
    from binseg.data.image_files import find_all_images
    from binseg.data.imageio import read_image

    paths = find_all_images(patterns).images
    count = min(limit, len(paths))
    chosen = [paths[place * len(paths) // count] for place in range(count)]
    return [preprocessing.resize(read_image(path)) for path in chosen]


def _is_binary(network: object) -> bool:
    from torch import nn

    from binseg.nn.layers import BinaryConv2d

    assert isinstance(network, nn.Module)
    return any(isinstance(module, BinaryConv2d) for module in network.modules())


def _terms(header: dict[str, object]) -> bool:
    training = header.get("training")
    return isinstance(training, dict) and "terms" in training
