"""`binseg predict`: class maps and overlays of people's own images, videos and cameras."""

import hashlib
import json
import os
import sys
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

from binseg.distributed.processes import Processes, joined
from binseg.errors import BinsegError
from binseg.inference.protocol import WHOLE, Protocol
from binseg.inference.video_sources import is_live, is_video, without_password
from binseg.lock import LOCK, locked
from binseg.prediction.inputs import Found, Inputs
from binseg.prediction.outputs import Outputs
from binseg.prediction.records import DoneImages, Made, Records, Shard
from binseg.prediction.segmenting import Job, Outcome
from binseg.prediction.workers import segment_all
from binseg.predictor import Predictor
from binseg.shipped import resolve

MOST_OVERLAYS = 1000
"""Images above which no overlays are drawn unless somebody asks for them."""

_LONGEST_WRITE = 3600.0  # seconds, from an output's first byte to its last
_WORTH_WORKERS = 16  # images for each worker that pay for its start
_MOST_WORKERS = 8  # that decode and encode beside one network


def predict(
    model: Path,
    images: list[str],
    out: Path,
    protocol: Protocol = WHOLE,
    overlay: bool | None = None,
    alpha: float = 0.5,
    device: str = "auto",
    continue_: bool = False,
    shard: str | None = None,
    workers: int | None = None,
    frames: Literal["video", "masks"] = "video",
    ray: bool = False,
) -> int:
    """Segment images: writes class ids, colour overlays with a legend, and a line of JSON each.

    For each image NAME.* it writes NAME.png (a palette PNG whose pixels are class ids, of the
    image's own size) and NAME_overlay.jpg. A JSON line with file, size, seconds, class shares and
    outputs goes to stdout and is added to predictions.jsonl. Files that cannot be read, and files
    of a folder that are left out, are named on stderr with the reason; the exit status is then 1.
    No input, and no file that binseg has not written, is ever overwritten; what earlier runs have
    written into --out is not taken for an image. With `torchrun --nproc-per-node N -m binseg
    predict …` N processes share the images. Videos, cameras and streams become NAME_overlay.webm;
    Ctrl-C keeps what is done.

    Args:
        model: model file, run folder, hf:user/name or shipped name.
        images: files, folders, globs, videos (.mp4, .mov, .webm, .mkv, .avi), cameras (0, 1, …)
            and streams (rtsp://…).
        out: folder to write into; made if missing.
        protocol: how an image is shown to the network.
        overlay: write the overlays too (default: for up to 1,000 images).
        alpha: strength of the overlay's colours, 0 (the image alone) to 1 (the colours alone).
        device: auto (a CUDA GPU if there is one, else the CPU), cpu, cuda or cuda:N.
        continue_: leave out what is done already: images whose outputs lie in --out, made with the
            same model and the same options from the file as it is now.
        shard: i/n with i from 0: do this one of n parts of the images; its lines go to a file of
            its own. Parts may run at the same time, on several machines that share --out.
        workers: processes that decode, segment and encode (default: by the processors and the
            number of images; 0: none beside this one).
        frames: what becomes of a video: video (one with overlays) or masks (class ids, a PNG for
            each frame).
        ray: share the images among the machines of a Ray cluster (pip install 'binseg[ray]').

    Returns:
        0, or 1 if a file was left out.
    """
    if not 0.0 <= alpha <= 1.0:
        raise BinsegError(f"alpha must lie in [0, 1], not {alpha}")
    if workers is not None and workers < 0:
        raise BinsegError(f"workers must be at least 0, not {workers}")
    part = Shard() if shard is None else Shard.parse(shard)
    sources = list(map(str, images))
    videos = [each for each in sources if is_video(each)]
    with joined() as processes, ExitStack() as stack:
        predictor = Predictor(model, device=processes.device(device), protocol=protocol)
        lock = LOCK if part.count == 1 else f"{LOCK}-{part.index}-of-{part.count}"
        processes.decided("folder", lambda: stack.enter_context(locked(out, lock)))
        outputs = Outputs(out)
        if processes.is_first:
            # other shards may be writing theirs
            outputs.remove_leftovers(0 if part.count == 1 else _LONGEST_WRITE)
        inputs = Inputs([each for each in sources if not is_video(each)], outputs.has_written)
        mine = part.part(processes.rank, processes.size)
        found = inputs.look(mine)
        processes.agree("images", {"files": found.digest})
        if processes.is_first:
            _report_found(found, out, too_many=overlay is None and found.count > MOST_OVERLAYS)
        if overlay is None:
            overlay = found.count <= MOST_OVERLAYS
        made = Made(_made_with(model, protocol), alpha if overlay else None)
        job = Job(str(model), out, made, str(predictor.device), protocol)
        done = DoneImages(out, mine) if continue_ else None
        records = Records(out, mine, fresh=not continue_)
        stack.callback(records.close)
        processes.gather(None)  # what is there already is known before anybody adds to it
        todo = _Undone(inputs.images(mine), done, made)
        count = _workers(workers, found.mine, predictor, processes)
        faults = 0
        with _progress(found.mine, shown=processes.is_first) as advance:
            if ray:
                from binseg.ray import segment_files

                outcomes: Generator[Outcome, None, None] = segment_files(job, todo)
            else:
                outcomes = segment_all(job, predictor, todo, count)
            with closing(outcomes):  # the workers end before anything else does
                for outcome in outcomes:
                    advance(Path(outcome.path).name, 1 + todo.skipped())
                    faults += _kept(outcome, records)
        of_video = Made(f"{made.made_with}-{frames}", alpha if frames == "video" else None)
        for video in (each for each in videos if mine.has(each)):
            if done is not None and not is_live(video) and done.has(video, of_video):
                todo.done += 1
                continue
            faults += _segment_video(video, predictor, outputs, records, frames, of_video)
        sums = map(sum, zip(*processes.gather((todo.done, faults)), strict=True))
        done_before, faults = sums
        faults += found.left_out
        if processes.is_first:
            _sum_up(found.count + len(videos), done_before, faults)
        return 1 if faults else 0


class _Undone:
    """The images that are left to do; counts the others."""

    def __init__(self, images: Iterator[str], done: DoneImages | None, made: Made) -> None:
        self._images = images
        self._known = done
        self._made = made
        self._shown = 0
        self.done = 0

    def __iter__(self) -> "_Undone":
        return self

    def __next__(self) -> str:
        while True:
            path = next(self._images)
            if self._known is None or not self._known.has(path, self._made):
                return path
            self.done += 1

    def skipped(self) -> int:
        """How many were left out since this was asked last."""
        new, self._shown = self.done - self._shown, self.done
        return new


def _kept(outcome: Outcome, records: Records) -> int:
    """Write down what became of an image; 1 if it is a fault.

    Raises:
        BinsegError: nothing more can be written.
    """
    if outcome.record is not None:
        print(records.add(outcome.record).decode(), end="", flush=True)
        return 0
    if outcome.ends_all:
        raise BinsegError(outcome.fault)
    print(f"skipped {outcome.fault}", file=sys.stderr, flush=True)
    return 1


def _segment_video(
    source: str,
    predictor: Predictor,
    outputs: Outputs,
    records: Records,
    frames: Literal["video", "masks"],
    made: Made,
) -> int:
    """Segment a video and write down what became of it; 1 if it cannot be read."""
    from binseg.prediction.videos import Interrupted, segment_video

    try:
        with _frame_rate(without_password(source)) as show:
            record = segment_video(
                source, predictor, outputs, frames=frames, alpha=made.alpha or 0, on_progress=show
            )
    except Interrupted as error:
        print(records.add(error.record or {}).decode(), end="", flush=True)
        raise
    except BinsegError as error:
        outputs.check_writable()
        print(f"skipped {error}", file=sys.stderr, flush=True)
        return 1
    if not is_live(source):
        record |= made.about(source)
    print(records.add(record).decode(), end="", flush=True)
    text = (
        f"{record['file']}: {record['frames']:,} frames, {record['frames_per_second']:.1f} a second"
    )
    print(text, file=sys.stderr)
    return 0


def _workers(given: int | None, images: int, predictor: Predictor, processes: Processes) -> int:
    """Processes beside this one; 0 where their start would take longer than they save."""
    if given is not None:
        return given
    if predictor.packed is not None:
        from binseg.inference.packed import default_threads

        most = default_threads()
    else:
        local = int(os.environ.get("LOCAL_WORLD_SIZE", processes.size))
        most = min(_MOST_WORKERS, (os.cpu_count() or 1) // local)
    most = min(most, images // _WORTH_WORKERS)
    return most if most > 1 else 0


def _made_with(model: Path, protocol: Protocol) -> str:
    """What the outputs of an image depend on, apart from the image and the overlay's strength."""
    content = hashlib.sha256(resolve(model).read_bytes()).hexdigest()
    settings = json.dumps([content, asdict(protocol)])
    return hashlib.sha256(settings.encode()).hexdigest()[:16]


def _report_found(found: Found, out: Path, *, too_many: bool) -> None:
    for line in found.lines:
        print(line, file=sys.stderr)
    if found.outputs:
        text = f"{out}: {found.outputs:,} outputs of earlier runs are no images here"
        print(text, file=sys.stderr)
    if too_many:
        text = f"{found.count:,} images: no overlays are drawn (--overlay draws them)"
        print(text, file=sys.stderr)


def _sum_up(found: int, done: int, faults: int) -> None:
    if done:
        print(f"{done:,} of {found:,} images were done before", file=sys.stderr)
    if faults:
        print(f"{faults:,} left out, {found:,} images found", file=sys.stderr)


@contextmanager
def _progress(total: int, *, shown: bool) -> Iterator[Callable[[str, int], None]]:
    """A function to call with an image's name and how many are done more; a bar on stderr if
    `shown` on a terminal."""
    if not (shown and total and sys.stderr.isatty()):
        yield lambda name, more: None
        return
    with _bar(total) as (bar, task):
        yield lambda name, more: bar.update(task, description=name[:40], advance=more)


@contextmanager
def _frame_rate(name: str) -> Iterator[Callable[[int, int, float], None]]:
    """A function that shows frames done, of how many, and frames a second, on a terminal."""
    if not sys.stderr.isatty():
        yield lambda done, total, rate: None
        return
    with _bar(None) as (bar, task):

        def show(done: int, total: int, rate: float) -> None:
            text = f"{name[:40]}  {rate:.1f} frames/s"
            bar.update(task, description=text, completed=done, total=total or None)

        yield show


@contextmanager
def _bar(total: int | None) -> Iterator[tuple[Any, Any]]:
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
        yield bar, bar.add_task("", total=total)
