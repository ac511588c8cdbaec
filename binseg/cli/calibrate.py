"""`binseg calibrate`: a trained network, measured anew on images."""

from dataclasses import replace
from pathlib import Path

from binseg.cli.model_out import check_model_out
from binseg.data.config import DataConfig
from binseg.errors import BinsegError
from binseg.shipped import trainable


def calibrate_command(
    model: Path,
    *,
    data: DataConfig,
    out: Path,
    statistics: bool = True,
    biases: bool = True,
    device: str = "auto",
) -> int:
    """Measure a trained network anew: `binseg calibrate runs/mine --out calibrated.safetensors`.

    Shows it data.calibration_images unaugmented training images, replaces BatchNorm's statistics by
    those of these images, and adds to each class's scores the number that makes mIoU highest on
    them. Nothing is trained; it takes a minute. Of other images than those of the training (another
    camera, another city) it makes the network theirs. Pack it afterwards.

    Args:
        model: run folder, model file or shipped name; not a packed one. It stays as it is.
        data: the images and their labels; of a run folder, those of its training.
        out: the calibrated network's file; ends in .safetensors.
        statistics: measure BatchNorm's statistics.
        biases: fit the numbers that are added to the class scores.
        device: auto (a CUDA GPU if there is one, else the CPU), cpu, cuda or cuda:N.

    Returns:
        0.
    """
    if not statistics and not biases:
        raise BinsegError("--no-statistics and --no-biases leave nothing to do; leave one out")
    source = trainable(model)
    check_model_out(out, source)
    # seconds of imports that --help does not need
    from binseg.compiler.packed import PackedSegmenter
    from binseg.data.module import SegmentationData
    from binseg.evaluation.evaluate import check_same_classes
    from binseg.loaded import load
    from binseg.nn.float_file import save_float, stored_dtype
    from binseg.predictor import choose_device
    from binseg.training.calibration import calibrate

    loaded = load(source)
    if isinstance(loaded.model, PackedSegmenter):
        raise BinsegError(f"{source}: the network is packed; calibrate it before, then pack it")
    seen = loaded.preprocessing
    shown = SegmentationData(
        replace(data, short_side=seen.short_side, mean=seen.mean, std=seen.std)
    )
    check_same_classes(loaded.labels, shown.labels, str(source))
    network = loaded.model.to(choose_device(device))
    done = calibrate(network, shown, statistics=statistics, biases=biases)
    print(f"shown: {done.images} images of {shown.training}")
    about = {"data": data.name, "images": done.images}
    if done.norms:
        print(f"statistics of {done.norms} BatchNorms measured")
    if done.biases is not None:
        named = dict(zip(loaded.labels.names, done.biases.biases.tolist(), strict=True))
        print("added to the class scores: " + ", ".join(f"{n} {b:+.2f}" for n, b in named.items()))
        print(f"mIoU on these images: {done.biases.before:.3f} before, {done.biases.after:.3f} now")
        about["class_biases"] = named
    # the figures of its validation are those of the network before
    training = loaded.header.get("training") or {}
    kept = {key: value for key, value in training.items() if not key.startswith("val_")}
    save_float(
        out,
        network,
        loaded.labels,
        seen,
        training={**kept, "calibrated": about},
        dtype=stored_dtype(source),
    )
    print(f"wrote {out}")
    return 0
