"""`binseg evaluate`: the scores of a model, or of masks that some tool has written."""

import dataclasses
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from binseg.data.config import DataConfig
from binseg.data.image_files import left_out_lines
from binseg.distributed.processes import Processes, digest, joined
from binseg.errors import BinsegError, printable
from binseg.inference.protocol import WHOLE, Protocol
from binseg.lock import locked

if TYPE_CHECKING:
    from rich.table import Table

    from binseg.data.samples import SegmentationDataset
    from binseg.evaluation.evaluate import Predictions
    from binseg.evaluation.official import OfficialScores
    from binseg.evaluation.result import Evaluation


def evaluate_command(
    model: Path | None = None,
    *,
    data: DataConfig,
    out: Path | None = None,
    split: Literal["train", "val", "test"] = "val",
    protocol: Protocol = WHOLE,
    predictions: Path | None = None,
    raw_ids: bool = False,
    export: Path | None = None,
    official: bool = False,
    boundary: bool = True,
    boundary_distance: float = 0.02,
    worst: int = 20,
    against: Path | None = None,
    corruptions: bool = False,
    block: int = 10,
    device: str = "auto",
) -> int:
    """Score a model on labelled images, at the label's own resolution.

    Prints a table: IoU, accuracy and Boundary IoU of each class and their means, pixel accuracy,
    frequency-weighted IoU; iIoU where the data set has instance maps (Cityscapes). One confusion
    matrix over the whole set; pixels without a label never count; a class that occurs neither in
    the labels nor in the predictions is left out of the mean. The images are resized as the
    model's file says, not as data.short_side does. With `torchrun --nproc-per-node N -m binseg
    evaluate …` N processes share the images and give the same figures.

    Args:
        model: model file, run folder, hf:user/name or shipped name; none with --predictions.
        data: the data set.
        out: folder for the report: scores.json, confusion.png and worst/index.html; null: none.
        split: part of the data set.
        protocol: how an image is shown to the network.
        predictions: score this folder of masks instead of a model: NAME.png of class ids for
            each image NAME, of its label's size, at any depth (Cityscapes: also
            CITY_SEQUENCE_FRAME*.png).
        raw_ids: those masks hold the data set's raw ids (Cityscapes: 7 for road), not class ids
            from 0 on.
        export: folder for the predictions in the form that the benchmark's server takes: VOC's
            results/VOC2012/Segmentation/…, Cityscapes' labelIds, otherwise NAME.png of raw ids;
            also for a test split without public labels, which is not scored.
        official: also score the written files by the benchmark's rules from outside, and fail if
            a class differs by more than 1e-9: Cityscapes by cityscapesScripts; VOC, whose devkit
            is MATLAB, by a recount after its VOCevalseg.m. Needs --export or --predictions.
        boundary: also compute Boundary IoU.
        boundary_distance: width of its boundary as a share of the image's diagonal.
        worst: number of images on the page of the worst ones; 0: no page.
        against: another model file, run folder or shipped name, scored on the same images: prints
            the differences and their 95 % intervals (paired bootstrap over blocks of neighbouring
            images).
        corruptions: also score under noise, changes of brightness and contrast, blur and JPEG of
            fixed strengths.
        block: neighbouring images to a block of the bootstrap: frames of a clip are almost copies
            of one another.
        device: auto (a CUDA GPU if there is one, else the CPU), cpu, cuda or cuda:N.

    Returns:
        0.
    """
    if (model is None) == (predictions is None):
        raise BinsegError("give a model file or --predictions FOLDER, one of the two")
    if worst < 0:
        raise BinsegError(f"worst must be 0 or more images, not {worst}")
    if model is None and (corruptions or against is not None):
        raise BinsegError("--corruptions and --against show images to a model file; give one")
    if block < 1:
        raise BinsegError(f"block must be 1 image or more, not {block}")
    if official and export is None and predictions is None:
        raise BinsegError("--official reads written predictions; add --export FOLDER")
    if export is not None and predictions is not None and export.resolve() == predictions.resolve():
        raise BinsegError(f"{export}: --export would overwrite --predictions; give another folder")
    # seconds of imports that --help does not need
    from rich.console import Console

    from binseg.evaluation.evaluate import export_predictions, score
    from binseg.evaluation.export import Export
    from binseg.evaluation.official import check_official, official_scores
    from binseg.evaluation.robustness import CLEAN, score_corrupted

    with joined() as processes, ExitStack() as stack:
        folders = {folder.resolve() for folder in (out, export) if folder is not None}
        processes.decided("folders", lambda: [stack.enter_context(locked(it)) for it in folders])
        dataset = data.open(split)
        names = (dataset.sample_name(place) for place in range(len(dataset)))
        processes.agree("data", {"images": digest(names)})
        if processes.rank == 0:
            for line in left_out_lines(dataset.left_out):
                print(printable(line), file=sys.stderr)
        if official:
            check_official(data.name, dataset)
        said = {"name": data.name, "root": data.root, "split": split, "pictures": len(dataset)}
        if predictions is not None:
            source = _masks(predictions, dataset, raw_ids)
        else:
            assert model is not None
            source = _network(model, dataset, processes.device(device), protocol)
        # opened first: a model that does not fit is refused before minutes of scoring
        second = None
        if against is not None:
            second = _network(against, dataset, processes.device(device), protocol)
        writer = None
        files = source.files
        if export is not None:
            writer = Export(export, data.name, split, dataset.labels)
            files = [writer.path(dataset.sample_name(place)) for place in range(len(dataset))]
        if writer is not None and not dataset.labelled:
            export_predictions(
                source.predictions, dataset, writer, progress=True, processes=processes
            )
            if processes.rank == 0:
                print(
                    f"wrote {len(files)} predictions into {writer.folder}; the labels of "
                    f"{data.name} {split} are not public, so nothing was scored"
                )
            return 0
        if official and writer is None and data.name == "cityscapes" and not raw_ids:
            raise BinsegError(
                "--official: cityscapesScripts reads labelIds; add --raw_ids if the masks of "
                "--predictions hold them, else --export FOLDER, which writes them so"
            )
        found = score(
            source.predictions,
            dataset,
            boundary_distance=boundary_distance if boundary else None,
            worst=worst if out is not None else 0,
            progress=True,
            about={**source.about, "data": said},
            export=writer,
            processes=processes,
        )
        own, other = {CLEAN: found}, None
        if second is not None:
            other = {CLEAN: _score_plainly(second, dataset, processes)}
        if corruptions:
            own |= score_corrupted(source.predictions, dataset, progress=True, processes=processes)
            if second is not None and other is not None:
                other |= score_corrupted(
                    second.predictions, dataset, progress=True, processes=processes
                )
        if processes.rank > 0:
            return 0
        name = "VOC animals" if dataset.labels.name == "voc_animals" else data.name
        title = f"{source.title} on {name} {split}"
        theirs = None
        if official:
            instances = found.instance_iou is not None
            theirs = official_scores(data.name, dataset, files, instances=instances)
        about, tables = _comparisons(own, other, second, block)
        found = dataclasses.replace(found, about={**found.about, **about})
        _report(found, dataset, theirs, out, title)
        for table in tables:
            Console().print(table)
        return 0


def _score_plainly(
    source: "_Source", dataset: "SegmentationDataset", processes: Processes
) -> "Evaluation":
    from binseg.evaluation.evaluate import score

    return score(
        source.predictions, dataset, boundary_distance=None, progress=True, processes=processes
    )


def _comparisons(
    own: Mapping[str, "Evaluation"],
    other: Mapping[str, "Evaluation"] | None,
    second: "_Source | None",
    block: int,
) -> tuple[dict[str, Any], list["Table"]]:
    """What the report says beside the scores: of a second model, and of corrupted images."""
    from binseg.evaluation.bootstrap import difference_dict, paired_difference
    from binseg.evaluation.robustness import (
        CLEAN,
        difference_table,
        robustness_dict,
        robustness_table,
    )

    about: dict[str, Any] = {}
    tables = []
    if second is not None and other is not None:
        difference = paired_difference([[own[CLEAN].counts]], [[other[CLEAN].counts]], block=block)
        about["against"] = {
            **second.about,
            "mean_iou": other[CLEAN].scores.mean_iou,
            **difference_dict(difference, own[CLEAN].labels.names, block),
        }
        tables.append(difference_table(own[CLEAN], other[CLEAN], difference, second.title))
    if len(own) > 1:
        about["corruptions"] = robustness_dict(own)
        if other is not None:
            about["against"]["corruptions"] = robustness_dict(other)
        tables.append(robustness_table(own, other, block=block, title="corrupted images"))
    return about, tables


class _Source(NamedTuple):
    """What is scored: class maps, the files they were read from, and how a report calls them."""

    predictions: "Predictions"
    files: Sequence[Path]
    title: str
    about: dict[str, Any]


def _masks(folder: Path, dataset: "SegmentationDataset", raw_ids: bool) -> _Source:
    from binseg.evaluation.prediction_files import FolderPredictions

    found = FolderPredictions(folder, dataset, raw_ids=raw_ids)
    about = {"predictions": {"folder": str(folder), "raw_ids": raw_ids}}
    return _Source(found, found.files, str(folder), about)


def _network(
    model: Path, dataset: "SegmentationDataset", device: str, protocol: Protocol
) -> _Source:
    from binseg.predictor import Predictor

    predictor = Predictor(model, device=device, protocol=protocol)
    title = f"{model.name}, {protocol}"
    return _Source(predictor.predictions(dataset), [], title, predictor.about)


def _report(
    found: "Evaluation",
    dataset: "SegmentationDataset",
    official: "OfficialScores | None",
    out: Path | None,
    title: str,
) -> None:
    from rich.console import Console

    from binseg.evaluation.official import official_table
    from binseg.evaluation.report import score_table, write_report

    Console().print(score_table(found, title))
    if official is not None:
        found = dataclasses.replace(
            found, about={**found.about, "official": official.to_dict(found)}
        )
        Console().print(official_table(found, official))
    if out is not None:
        for path in write_report(found, dataset, out, title):
            print(f"wrote {path}", file=sys.stderr)
    if official is not None:
        official.refuse_difference(found)
