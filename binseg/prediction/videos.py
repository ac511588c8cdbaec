"""A video, a camera or a stream, segmented into a video or into class ids of every frame."""

import contextlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np

from binseg.atomic import atomic_path
from binseg.data.imageio import write_mask
from binseg.data.preprocess import resize_image
from binseg.errors import BinsegError
from binseg.inference.video import Video, VideoWriter, even_size, real_time
from binseg.inference.video_sources import without_password
from binseg.prediction.outputs import Outputs
from binseg.predictor import Predictor
from binseg.visualize import overlay

Frames = Literal["video", "masks"]
"""What is made of a video's frames: one video of overlays, or a palette PNG of class ids each."""

_ENDINGS: dict[Frames, str] = {"video": "_overlay.webm", "masks": "_masks"}


class Interrupted(BinsegError):  # noqa: N818 (no error: the person has seen enough)
    """Ctrl-C ended a video early; what was done is kept.

    Attributes:
        record: of what is kept, if there is anything.
    """

    status = 130

    def __init__(self, message: str, record: dict[str, Any] | None) -> None:
        super().__init__(message)
        self.record = record


def segment_video(
    source: str,
    predictor: Predictor,
    outputs: Outputs,
    *,
    frames: Frames = "video",
    alpha: float = 0.5,
    on_progress: Callable[[int, int, float], None] = lambda done, total, rate: None,
) -> dict[str, Any]:
    """Segment a video, a camera or a stream until it ends, or until Ctrl-C.

    Of a live source the frame that is on is taken whenever the network is free, and a video of it
    plays in real time.

    Args:
        source: see `binseg.inference.video_sources.is_video`.
        predictor: the network.
        outputs: where NAME_overlay.webm goes, or NAME_masks/00000001.png, ….
        frames: which of the two.
        alpha: strength of the colours, 0 to 1.
        on_progress: takes the frames done, how many there are in all (0 if unknown), and the frames
            a second so far.

    Returns:
        The record: file, frames, frames_per_second, seconds, shares, outputs.

    Raises:
        BinsegError: it cannot be opened, has no frame, or cannot be written.
        Interrupted: Ctrl-C; what is done is kept.
    """
    with Video(source) as video:
        shown = without_password(source)
        target = outputs.path_of("camera" if video.is_live else source, _ENDINGS[frames])
        done, counts, started = 0, np.zeros(256, np.int64), time.monotonic()
        interrupted = False

        def rate() -> float:
            return done / max(1e-9, time.monotonic() - started)

        with contextlib.ExitStack() as stack:
            write = stack.enter_context(_writing(target, frames, video, predictor, alpha))
            try:
                for frame in video.latest_frames() if video.is_live else video.frames():
                    found = predictor(frame)
                    write(found.image, found.class_map)
                    counts += np.bincount(found.class_map.ravel(), minlength=256)
                    done += 1
                    on_progress(done, video.info.frames, rate())
            except KeyboardInterrupt:
                interrupted = True
            if not done:
                if interrupted:
                    raise KeyboardInterrupt
                raise video.damaged()
        names = predictor.labels.names
        total = max(1, int(counts.sum()))
        record = {
            "file": shown,
            "model": predictor.source,
            "width": video.info.size[1],
            "height": video.info.size[0],
            "frames": done,
            "frames_per_second": round(rate(), 2),
            "seconds": round(time.monotonic() - started, 2),
            "shares": {n: round(float(counts[i]) / total, 6) for i, n in enumerate(names)},
            "outputs": [str(target)],
            "complete": not interrupted,
        }
        if interrupted and not video.is_live:
            raise Interrupted(
                f"{shown}: stopped after {done:,} frames, which are in {target}", record
            )
        return record


@contextlib.contextmanager
def _writing(
    target: Path, frames: Frames, video: Video, predictor: Predictor, alpha: float
) -> Iterator[Callable[[np.ndarray, np.ndarray], None]]:
    """A function that takes a frame and its class map; the file is whole once the block ends."""
    if frames == "masks":
        number = 0

        def write_masks(frame: np.ndarray, class_map: np.ndarray) -> None:
            nonlocal number
            number += 1
            write_mask(target / f"{number:08}.png", class_map, predictor.labels.palette)

        yield write_masks
        return
    size = even_size(*video.info.size)
    times = real_time(video.info.rate) if video.is_live else lambda: 1
    with atomic_path(target) as temporary, VideoWriter(temporary, video.info.rate, size) as writer:

        def write_frame(frame: np.ndarray, class_map: np.ndarray) -> None:
            drawn = overlay(frame, class_map, predictor.labels, alpha)
            if drawn.shape[:2] != size:
                drawn = resize_image(drawn, size)
            for _ in range(times()):
                writer.write(drawn)

        yield write_frame
