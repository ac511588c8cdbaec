"""`binseg predict`: class maps and overlays of people's own images."""

import hashlib
import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from binseg.atomic import NoSpaceError
from binseg.data.image_files import find_images, left_out_lines
from binseg.distributed.processes import digest, joined
from binseg.errors import BinsegError
from binseg.inference.protocol import WHOLE, Protocol
from binseg.lock import locked
from binseg.prediction_folder import PredictionFolder
from binseg.shipped import resolve

if TYPE_CHECKING:
    from binseg.predictor import Predictor


def predict(
    model: Path,
    images: list[Path],
    out: Path,
    protocol: Protocol = WHOLE,
    overlay: bool = True,
    alpha: float = 0.5,
    device: str = "auto",
    continue_: bool = False,
) -> int:
    """Segment images: writes class ids, colour overlays with a legend, and a line of JSON each.

    For each image NAME.* it writes NAME.png (a palette PNG whose pixels are class ids, of the
    image's own size) and NAME_overlay.jpg. A JSON line with file, size, seconds, class shares and
    outputs goes to stdout and is added to predictions.jsonl. Files that cannot be read, and files
    of a folder that are left out, are named on stderr with the reason; the exit status is then 1.
    No input, and no file that binseg has not written, is ever overwritten; what earlier runs have
    written into --out is not taken for an image. With `torchrun --nproc-per-node N -m binseg
    predict …` N processes share the images.

    Args:
        model: model file, run folder, hf:user/name or shipped name.
        images: files, folders and globs.
        out: folder to write into; made if missing.
        protocol: how an image is shown to the network.
        overlay: write the overlays too.
        alpha: strength of the overlay's colours, 0 (the image alone) to 1 (the colours alone).
        device: auto (a CUDA GPU if there is one, else the CPU), cpu, cuda or cuda:N.
        continue_: leave out what is done already: images whose outputs lie in --out, made with the
            same model and the same options from the file as it is now.

    Returns:
        0, or 1 if a file was left out.
    """
    from binseg.predictor import Predictor

    if not 0.0 <= alpha <= 1.0:
        raise BinsegError(f"alpha must lie in [0, 1], not {alpha}")
    with joined() as processes, ExitStack() as stack:
        predictor = Predictor(model, device=processes.device(device), protocol=protocol)
        processes.decided("folder", lambda: stack.enter_context(locked(out)))
        folder = PredictionFolder(out, _settings(model, protocol, alpha if overlay else None))
        inputs, left_out = _found(images, folder, told=processes.is_first)
        processes.agree("images", {"files": digest(map(str, inputs))})
        names = folder.names(inputs)
        processes.gather(None)  # names depend on what is there, so nobody writes before
        mine = [inputs[place] for place in processes.share(len(inputs))]
        done, faults = 0, 0
        try:
            with _progress(len(mine), shown=processes.is_first) as advance:
                for path in mine:
                    advance(path.name)
                    if continue_ and folder.is_done(path, overlay=overlay):
                        done += 1
                        continue
                    try:
                        _segment(predictor, path, names[path], folder, overlay=overlay, alpha=alpha)
                    except NoSpaceError:
                        raise
                    except BinsegError as error:
                        # nor is a disk that takes nothing any more this image's fault
                        folder.check_writable()
                        faults += 1
                        _complain(error, path)
            done, faults = map(sum, zip(*processes.gather((done, faults)), strict=True))
        finally:
            if processes.is_first:
                folder.tidy()
        if processes.is_first:
            _sum_up(len(inputs), done, faults + left_out)
        return 1 if faults + left_out else 0


def _segment(
    predictor: "Predictor",
    path: Path,
    name: str,
    folder: PredictionFolder,
    *,
    overlay: bool,
    alpha: float,
) -> None:
    """Segment one image and write all that belongs to it."""
    files = folder.paths(name)[: 2 if overlay else 1]
    try:
        found = predictor(path)
        folder.begin(path, name)
        with _all_or_none(files):
            found.save(files[0], with_overlay=overlay, alpha=alpha)
    except MemoryError as error:
        raise BinsegError(f"{path}: not enough memory; make the image smaller") from error
    line = folder.finish(
        path,
        {
            "file": str(path),
            "model": predictor.source,
            "width": found.class_map.shape[1],
            "height": found.class_map.shape[0],
            "seconds": round(found.seconds, 4),
            "shares": {each: round(share, 6) for each, share in found.shares().items()},
            "outputs": [str(file) for file in files],
        },
    )
    print(line.decode(), end="", flush=True)


@contextmanager
def _all_or_none(files: Sequence[Path]) -> Iterator[None]:
    """Remove the files if the block fails: no class ids without their overlay."""
    try:
        yield
    except BaseException:
        for file in files:
            file.unlink(missing_ok=True)
        raise


def _settings(model: Path, protocol: Protocol, alpha: float | None) -> str:
    """What the outputs of an image depend on, apart from the image."""
    content = hashlib.sha256(resolve(model).read_bytes()).hexdigest()
    return json.dumps([content, asdict(protocol), alpha])


def _found(
    patterns: Sequence[Path], folder: PredictionFolder, *, told: bool
) -> tuple[list[Path], int]:
    """The images that files, folders and globs give, and how many files they leave out.

    Args:
        told: name on stderr what is left out.
    """
    found: dict[Path, None] = {}
    named: set[Path] = set()
    faults = 0
    lines = []
    for pattern in patterns:
        try:
            files = find_images(pattern)
        except BinsegError as error:
            faults += 1
            lines.append(_complaint(error, pattern))
            continue
        found.update(dict.fromkeys(files.images))
        named.update(path for path in files.images if path == pattern)
        faults += len(files.left_out)
        lines += left_out_lines(files.left_out)
    images, own = folder.without_outputs(path for path in found if path not in named)
    if own:
        lines.append(f"{folder.folder}: {len(own):,} outputs of earlier runs are no images here")
    if told:
        for line in lines:
            print(line, file=sys.stderr)
    kept = named.union(images)
    return [path for path in found if path in kept], faults


def _complaint(error: BinsegError, path: Path) -> str:
    text = str(error)
    return f"skipped {text if str(path) in text else f'{path}: {text}'}"


def _complain(error: BinsegError, path: Path) -> None:
    print(_complaint(error, path), file=sys.stderr, flush=True)


def _sum_up(found: int, done: int, faults: int) -> None:
    if done:
        print(f"{done:,} of {found:,} images were done before", file=sys.stderr)
    if faults:
        print(f"{faults:,} left out, {found:,} images found", file=sys.stderr)


class _Silent:
    def __call__(self, name: str) -> None:
        """Say nothing."""


@contextmanager
def _progress(total: int, *, shown: bool) -> Iterator[Any]:
    """A function to call with each image's name; a bar on stderr if `shown` on a terminal."""
    if not (shown and sys.stderr.isatty()):
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
