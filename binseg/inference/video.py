"""Frames of videos, cameras and streams, and videos made of frames.

Memory does not grow with a video's length.
"""

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from binseg.errors import BinsegError
from binseg.inference.video_sources import camera, is_live, without_password

MAX_PIXELS = 50_000_000
"""Of a frame."""

WEBM = "VP80"
"""Every browser plays it, every OpenCV wheel writes it."""

_PLAUSIBLE_RATE = (1.0, 240.0)  # frames a second
_USUAL_RATE = 25.0
_TIMEOUT = 10_000  # milliseconds for a stream to begin, and between its frames

# FFmpeg also opens play lists, which name other files and addresses of this machine
_FORMATS: tuple[Callable[[bytes], bool], ...] = (
    lambda head: head[4:8] == b"ftyp",  # MP4, MOV
    lambda head: head[:4] == b"\x1aE\xdf\xa3",  # WebM, Matroska
    lambda head: head[:4] == b"RIFF" and head[8:12] == b"AVI ",
)


@dataclass(frozen=True)
class VideoInfo:
    """What a video says of itself.

    Attributes:
        rate: frames a second; a usual one where it says nothing plausible.
        frames: how many, perhaps; 0 if it does not say.
        size: (height, width) of its frames in pixels.
    """

    rate: float
    frames: int
    size: tuple[int, int]


class Video:
    """An opened video, camera or stream.

    Args:
        source: see `binseg.inference.video_sources.is_video`.

    Attributes:
        info: what it says of itself.

    Raises:
        BinsegError: it cannot be opened, is damaged, or has frames that are too large; the message
            has a file's own name and no folder, and no password.
    """

    def __init__(self, source: str | Path) -> None:
        self.source = str(source)
        self.is_live = is_live(self.source)
        self.name = without_password(self.source) if self.is_live else Path(source).name
        if not self.is_live:
            _check_format(Path(source))
        if (number := camera(self.source)) is not None:
            self._capture = cv2.VideoCapture(number)
        else:
            limits = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, _TIMEOUT]
            limits += [cv2.CAP_PROP_READ_TIMEOUT_MSEC, _TIMEOUT]
            arguments = (self.source, cv2.CAP_FFMPEG)
            self._capture = cv2.VideoCapture(*arguments, limits if self.is_live else [])
        if not self._capture.isOpened():
            self.close()
            raise self.damaged()
        rate = self._capture.get(cv2.CAP_PROP_FPS)
        if not _PLAUSIBLE_RATE[0] <= rate <= _PLAUSIBLE_RATE[1]:
            rate = _USUAL_RATE
        count = self._capture.get(cv2.CAP_PROP_FRAME_COUNT)
        width = int(self._capture.get(cv2.CAP_PROP_FRAME_WIDTH))
        height = int(self._capture.get(cv2.CAP_PROP_FRAME_HEIGHT))
        # what a stream counts is nonsense
        known = not self.is_live and 1 <= count < 1e9
        self.info = VideoInfo(rate, int(count) if known else 0, (height, width))
        if width * height > MAX_PIXELS:
            self.close()
            raise BinsegError(
                f"{self.name}: frames of {width} x {height} pixels are too large; "
                "make the video smaller"
            )

    def damaged(self) -> BinsegError:
        """What to say if there is no frame in it."""
        if self.is_live:
            return BinsegError(
                f"{self.name}: gives no image; check that it is there, and that no other program "
                "uses it"
            )
        return BinsegError(
            f"{self.name}: damaged, or coded in a way that binseg cannot decode; convert it to MP4"
        )

    def frames(self, step: int = 1) -> Iterator[np.ndarray]:
        """Every so many frames, HWC uint8 RGB; ends where the video does."""
        while True:
            readable, frame = self._capture.read()
            if not readable:
                return
            yield cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)
            for _ in range(step - 1):
                if not self._capture.grab():
                    return

    def latest_frames(self) -> Iterator[np.ndarray]:
        """The frame that is on now, whenever one is asked for; those in between are dropped."""
        latest: list[np.ndarray] = []
        arrived = threading.Condition()
        stopped, over = threading.Event(), threading.Event()

        def fetch() -> None:
            for frame in self.frames():
                with arrived:
                    latest[:] = [frame]
                    arrived.notify()
                if stopped.is_set():
                    return
            over.set()

        thread = threading.Thread(target=fetch, daemon=True, name="binseg-camera")
        thread.start()
        try:
            while True:
                with arrived:
                    while not latest and not over.is_set():
                        arrived.wait(0.2)  # not for ever: Ctrl-C must get through
                    if not latest:
                        return
                    frame = latest.pop()
                yield frame
        finally:
            stopped.set()
            thread.join(2 * _TIMEOUT / 1000)

    def close(self) -> None:
        """Give it back."""
        self._capture.release()

    def __enter__(self) -> "Video":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class VideoWriter:
    """A WebM file (VP8), without sound.

    Args:
        path: ends in .webm.
        rate: frames a second.
        size: (height, width) of the frames in pixels, even numbers (see `even_size`).

    Raises:
        BinsegError: this OpenCV cannot write one.
    """

    def __init__(self, path: Path, rate: float, size: tuple[int, int]) -> None:
        codec = cv2.VideoWriter.fourcc(*WEBM)
        self._writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, codec, rate, size[::-1])
        if not self._writer.isOpened():
            self.close()
            raise BinsegError("this OpenCV writes no WebM videos; install opencv-python-headless")

    def write(self, frame: np.ndarray) -> None:
        """Add a frame, HWC uint8 RGB."""
        self._writer.write(cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))

    def close(self) -> None:
        """Finish the file."""
        self._writer.release()

    def __enter__(self) -> "VideoWriter":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def real_time(rate: float) -> Callable[[], int]:
    """Says how often the next frame of a live source has to be written, so that the video plays as
    fast as the world went, however few frames were segmented; at least once.

    Args:
        rate: frames a second of the video.
    """
    started, written = time.monotonic(), 0

    def times() -> int:
        nonlocal written
        due = max(1, round((time.monotonic() - started) * rate) - written)
        written += due
        return due

    return times


def even_size(height: float, width: float) -> tuple[int, int]:
    """The nearest size that codecs take, which store colours for squares of two pixels."""
    return max(2, 2 * round(height / 2)), max(2, 2 * round(width / 2))


def _check_format(path: Path) -> None:
    if not path.is_file():
        raise BinsegError(f"{path.name}: no such file; check its name")
    with path.open("rb") as file:
        head = file.read(16)
    if not any(fits(head) for fits in _FORMATS):
        what = "not a video that binseg reads" if head else "empty file"
        raise BinsegError(f"{path.name}: {what}; use MP4, MOV, WebM, MKV or AVI")
