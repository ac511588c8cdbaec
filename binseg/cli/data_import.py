"""`binseg data import`: annotations of other tools to a folder that binseg trains on."""

import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from binseg.errors import BinsegError

if TYPE_CHECKING:
    from binseg.data.importing import ImportReport


def data_import(
    source: Path,
    *,
    out: Path,
    format: Literal[
        "auto",
        "labelme",
        "cvat",
        "coco",
        "yolo",
        "label-studio",
        "hugging-face",
        "voc",
        "cityscapes",
        "color-masks",
    ] = "auto",
    images: Path | None = None,
    labels: Path | None = None,
    classes: list[str] | None = None,
    uncovered: Literal["background", "ignore"] = "background",
) -> int:
    """Turn annotations of another tool into images/, masks/ and labels.yaml.

    The format is found by looking; a second run writes only what is new.

    Args:
        source: folder, file or .zip with the annotations.
        out: the folder to write.
        format: format of the annotations; auto finds it out.
        images: folder with the images, if they are not beside the annotations.
        labels: labels.yaml with names, ids and colours, for masks that come without.
        classes: only these classes, in this order; the others become uncovered pixels.
        uncovered: what pixels without a region become, the class "background" or ignored (255).
    """
    from binseg.data.importing import ImportReport, import_annotations
    from binseg.data.importing.detect import FORMATS, detect, open_source
    from binseg.data.importing.zipped import unzip

    for path in (source, images, labels):
        if path is not None and not path.exists():
            raise BinsegError(f"{path}: no such file or folder; check the path")
    with ExitStack() as stack:
        if source.suffix.lower() == ".zip" and source.is_file():
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="binseg-import-")))
            unzip(source, folder)
            source = folder
        name = detect(source) if format == "auto" else format
        print(f"reading {FORMATS[name]}")
        opened = open_source(name, source, images, labels)
        report: ImportReport | None = None
        for step in import_annotations(opened, out, uncovered=uncovered, classes=classes or ()):
            if isinstance(step, ImportReport):
                report = step
    assert report is not None
    _print(report, out, uncovered)
    return 0


def _print(report: "ImportReport", out: Path, uncovered: str) -> None:
    count = sum(report.splits.values())
    named = {split: number for split, number in report.splits.items() if split}
    splits = ", ".join(f"{number:,} {split}" for split, number in named.items())
    print(f"{count:,} images{f' ({splits})' if splits else ''} → {out}")
    print(f"{len(report.classes)} classes: {', '.join(report.classes)}")
    pixels = max(1, report.pixels)
    fate = "the class 'background'" if uncovered == "background" else "ignored (255)"
    if report.uncovered:
        print(f"{report.uncovered / pixels:.1%} of the pixels have no region or class: {fate}")
    if report.overlapping:
        print(f"{report.overlapping / pixels:.1%} of the pixels lie under regions of two classes")
    for line in report.notes:
        print(line)
    print(f"{report.written:,} files written, {report.unchanged:,} unchanged")
    print(f"next: binseg data check --data.name folder --data.root {out}")
