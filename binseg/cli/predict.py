"""`binseg predict`: class maps and overlays of people's own pictures."""

import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from binseg.errors import BinsegError
from binseg.evaluation.protocols import WHOLE, Protocol

RECORDS = "predictions.jsonl"


def predict(
    model: Path,
    pictures: list[Path],
    out: Path,
    protocol: Protocol = WHOLE,
    overlay: bool = True,
    alpha: float = 0.5,
    device: str = "auto",
) -> int:
    """Segment pictures: writes class ids, colour overlays with a legend, and a line of JSON each.

    For each picture NAME.* it writes NAME.png (a palette PNG whose pixels are class ids, of the
    picture's own size) and NAME_overlay.jpg. A JSON line with file, size, seconds, class shares
    and outputs goes to stdout and to predictions.jsonl (an earlier one is replaced). Pictures that
    cannot be read are named on stderr and skipped; the exit status is then 1. No input is ever
    overwritten.

    Args:
        model: model file (.safetensors).
        pictures: files, folders and globs.
        out: folder to write into; made if missing.
        protocol: how a picture is shown to the network.
        overlay: write the overlays too.
        alpha: strength of the overlay's colours, 0 (the picture alone) to 1 (the colours alone).
        device: auto (a CUDA GPU if there is one, else the CPU), cpu, cuda or cuda:N.

    Returns:
        0, or 1 if a picture was skipped.
    """
    from binseg.predictor import Predictor

    if not 0.0 <= alpha <= 1.0:
        raise BinsegError(f"alpha must lie in [0, 1], not {alpha}")
    predictor = Predictor(model, device=device, protocol=protocol)
    inputs, skipped = _expanded(pictures)
    names = output_names(inputs, out)
    with _records(out) as records, _progress(len(inputs)) as advance:
        for path in inputs:
            advance(path.name)
            try:
                found = predictor(path)
            except BinsegError as error:
                skipped += 1
                _complain(error, path)
                continue
            # outside the try: a disk that is full is no fault of the picture and ends the run
            files = found.save(out / f"{names[path]}.png", with_overlay=overlay, alpha=alpha)
            line = _as_json(
                {
                    "file": str(path),
                    "width": found.class_map.shape[1],
                    "height": found.class_map.shape[0],
                    "seconds": round(found.seconds, 4),
                    "shares": {name: round(share, 6) for name, share in found.shares().items()},
                    "outputs": [str(file) for file in files],
                }
            )
            records.write(line)
            print(line.decode(), end="", flush=True)
    if skipped:
        print(f"{skipped} skipped, {len(inputs)} found", file=sys.stderr)
    return 1 if skipped else 0


def output_names(inputs: Sequence[Path], out: Path) -> dict[Path, str]:
    """A name for each input's outputs: its stem, or stem_2, stem_3, … where that is taken.

    A name is taken by an earlier input (letter case ignored: some disks do), or if one of the
    files made from it would replace one of the inputs.
    """
    identities = {_identity(path) for path in inputs} - {None}
    names: dict[Path, str] = {}
    taken: set[str] = set()
    for path in inputs:
        name, number = path.stem, 1
        while name.lower() in taken or any(
            _identity(out / f"{name}{ending}") in identities for ending in (".png", "_overlay.jpg")
        ):
            number += 1
            name = f"{path.stem}_{number}"
        taken.add(name.lower())
        names[path] = name
    return names


def _identity(path: Path) -> tuple[int, int] | None:
    """What tells one file from another, whatever path leads to it; None for a missing file."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _expanded(patterns: Sequence[Path]) -> tuple[list[Path], int]:
    """The files that the patterns name, and how many patterns name none (told on stderr)."""
    from binseg.data.image_files import find_images, left_out_lines

    found: dict[Path, None] = {}
    faults = 0
    for pattern in patterns:
        try:
            files = find_images(pattern)
        except BinsegError as error:
            faults += 1
            _complain(error, pattern)
            continue
        found.update(dict.fromkeys(files.images))
        faults += len(files.left_out)
        for line in left_out_lines(files.left_out):
            print(line, file=sys.stderr)
    return list(found), faults


def _complain(error: BinsegError, path: Path) -> None:
    text = str(error)
    print(f"skipped {text if str(path) in text else f'{path}: {text}'}", file=sys.stderr)


def _as_json(record: dict[str, Any]) -> bytes:
    # bytes of a file's name that are no UTF-8 become \udc…, which JSON reads as what they were
    text = json.dumps(record, ensure_ascii=False, allow_nan=False) + "\n"
    return text.encode(errors="backslashreplace")


@contextmanager
def _records(out: Path) -> Iterator[IO[bytes]]:
    """The file of JSON lines, unbuffered: each line is one write, so a killed run leaves whole
    lines."""
    path = out / RECORDS
    try:
        out.mkdir(parents=True, exist_ok=True)
        records = path.open("wb", buffering=0)
    except OSError as error:
        raise BinsegError(f"{path}: cannot be written ({error.strerror or error})") from error
    with records:
        yield records


class _Silent:
    def __call__(self, name: str) -> None:
        """Say nothing."""


@contextmanager
def _progress(total: int) -> Iterator[Any]:
    """A function to call with each picture's name; a bar on stderr if that is a terminal."""
    if not sys.stderr.isatty():
        yield _Silent()
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    # without a terminal on stdout its lines must stay there, not go through the bar's console
    bar = Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        redirect_stdout=sys.stdout.isatty(),
        transient=True,
    )
    with bar:
        task = bar.add_task("", total=total)
        started = False

        def advance(name: str) -> None:
            nonlocal started
            bar.update(task, description=name[:40], advance=1 if started else 0)
            started = True

        yield advance
