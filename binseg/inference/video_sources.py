"""Which inputs are videos, cameras or streams, by their names alone."""

import re
from pathlib import Path

SUFFIXES = (".mp4", ".m4v", ".mov", ".webm", ".mkv", ".avi")

_CAMERA = r"(?:/dev/video)?(\d{1,2})"
_STREAM = r"(?:rtsps?|rtmps?|https?|udp|tcp|rtp)://.+"


def is_video(source: str) -> bool:
    """Whether an input names a video file (by its ending), a camera (a number that no file is
    called, or /dev/video0) or a stream (rtsp://, http://, …)."""
    if source.isdecimal() and Path(source).exists():
        return False
    return is_live(source) or source.lower().endswith(SUFFIXES)


def is_live(source: str) -> bool:
    """Whether it is a camera or a stream: frames that are not fetched in time are lost."""
    return camera(source) is not None or bool(re.fullmatch(_STREAM, source))


def camera(source: str) -> int | None:
    """The number of a camera; None if it is none."""
    found = re.fullmatch(_CAMERA, source)
    return int(found[1]) if found else None


def without_password(source: str) -> str:
    """An address as it may be shown and written down."""
    return re.sub(r"^(\w+://)[^/@]*@", r"\1", source)
