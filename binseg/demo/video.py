"""Short videos, frame by frame, in memory that does not grow with their length."""

import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from threading import Event

import numpy as np

from binseg.atomic import atomic_path
from binseg.data.preprocess import resize_image
from binseg.demo.faults import without_folders
from binseg.demo.models import ModelList
from binseg.errors import BinsegError
from binseg.inference.video import Video, VideoWriter, even_size
from binseg.visualize import overlay

MOST_SECONDS = 30.0
MOST_FRAMES = 300
LONGEST = 640
"""Pixels of the long side of the result."""

NAME = "segmented.webm"


@dataclass(frozen=True)
class VideoPlan:
    """What of an upload will be segmented.

    Attributes:
        frames: how many at most; the file may hold fewer than it says.
        step: every so many frames of the upload.
        rate: frames a second of the result.
        size: (height, width) of the result, even numbers.
        notes: what is left out, for the person who uploaded it.
    """

    frames: int
    step: int
    rate: float
    size: tuple[int, int]
    notes: list[str]


def plan_video(
    path: Path,
    *,
    most_seconds: float = MOST_SECONDS,
    most_frames: int = MOST_FRAMES,
    longest: int = LONGEST,
) -> VideoPlan:
    """Look at an upload's first frame and its header.

    Args:
        path: MP4, MOV, WebM, MKV or AVI, told by its content.
        most_seconds: what comes later is left out.
        most_frames: of the result; if there are more, every second, third … one is taken.
        longest: pixels of the long side of the result.

    Raises:
        BinsegError: no such video, damaged, or too large; the message has the file's own name and
            no folder.
    """
    with Video(path) as video:
        first = next(video.frames(), None)
        if first is None:
            raise video.damaged()
        rate, count = video.info.rate, video.info.frames
    within = max(1, round(rate * most_seconds))
    notes = []
    if not 1 <= count <= within:
        if count > within:
            notes.append(f"only the first {most_seconds:g} s of {count / rate:.0f} s")
        count = within
    step = math.ceil(count / most_frames)
    if step > 1:
        notes.append(f"only one frame in {step}")
    height, width = first.shape[:2]
    shrink = min(1.0, longest / max(height, width))
    size = even_size(height * shrink, width * shrink)
    if shrink < 1:
        notes.append(f"shown at {size[1]} x {size[0]}; the upload has {width} x {height} pixels")
    return VideoPlan(math.ceil(count / step), step, rate / step, size, notes)


def segment_video(
    path: Path,
    models: ModelList,
    key: str,
    backend: str,
    out_folder: Path,
    *,
    opacity: float,
    most_seconds: float = MOST_SECONDS,
    most_frames: int = MOST_FRAMES,
    longest: int = LONGEST,
    progress: Callable[[int, int], None] = lambda done, total: None,
    stop: Event | None = None,
) -> Path:
    """Segment a video; images that others upload get their turn between its frames.

    Args:
        path: of the upload.
        models, key, backend: see `ModelList.runner`.
        out_folder: for the result; made if it is not there.
        opacity: of the colours, 0 to 1.
        most_seconds, most_frames, longest: see `plan_video`, which also says what is left out.
        progress: told the frames that are done, and about how many there are in all.
        stop: once it is set, the frames that are done make the result.

    Returns:
        A WebM file (VP8), without sound.

    Raises:
        BinsegError: see `plan_video`; or stopped before the first frame. No file is left then.
    """
    plan = plan_video(path, most_seconds=most_seconds, most_frames=most_frames, longest=longest)
    runner = models.runner(key, backend)
    done = 0
    out = out_folder / NAME
    with without_folders(out), atomic_path(out) as temporary:
        with VideoWriter(temporary, plan.rate, plan.size) as writer:
            for frame in _frames(path, plan):
                if stop is not None and stop.is_set():
                    break
                class_map, _ = runner.timed(frame)
                drawn = overlay(frame, class_map, runner.labels, opacity)
                writer.write(drawn)
                done += 1
                progress(done, plan.frames)
        if not done:
            raise BinsegError(f"{path.name}: stopped before the first frame; start it again")
    return out


def _frames(path: Path, plan: VideoPlan) -> Iterator[np.ndarray]:
    """HWC uint8 RGB, of the plan's size; ends early where the file does."""
    with Video(path) as video:
        for frame in itertools.islice(video.frames(plan.step), plan.frames):
            yield resize_image(frame, plan.size)
