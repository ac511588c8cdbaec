"""Names in any script: a font that has their letters, or other letters that can be drawn.

DejaVu Sans (from matplotlib) or Pillow's own font come first, then the fonts of this machine. A
name that no font can draw is transliterated, and a warning says so.
"""

import os
import sys
import unicodedata
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache, lru_cache
from importlib.util import find_spec
from pathlib import Path

from PIL import ImageFont

from binseg.errors import BinsegWarning

_SUFFIXES = (".ttf", ".otf", ".ttc", ".otc")
_WIDE = ("noto", "cjk", "unicode", "unifont", "fallback", "wqy", "han", "gothic", "freesans")
"""In the names of fonts that have many letters; they are looked into first."""

_NO_LETTER = "\U0010ffff"
"""Drawn as the sign that a font has for letters that it lacks."""


@dataclass(frozen=True)
class Drawable:
    """A text and what to draw it with.

    Attributes:
        text: itself, or its transliteration.
        file: of the font; None for Pillow's own.
    """

    text: str
    file: Path | None

    def font(self, size: int) -> ImageFont.FreeTypeFont:
        """The font at a height of `size` pixels."""
        return _opened(self.file, size)


def drawable(texts: Iterable[str]) -> list[Drawable]:
    """The texts as they can be drawn, each in one font.

    Warns with a `BinsegWarning`, once for each text, of those that no font on this machine has all
    letters of.
    """
    texts = list(texts)
    found = [_drawable(text) for text in texts]
    lost = [
        (text, each.text)
        for text, each in zip(texts, found, strict=True)
        if each.text != text and text not in _told
    ]
    if lost:
        _told.update(text for text, _ in lost)
        some = ", ".join(f"'{text}' as '{other}'" for text, other in lost[:3])
        more = f" and {len(lost) - 3} more" if len(lost) > 3 else ""
        warnings.warn(
            BinsegWarning(
                f"no font on this machine has all letters of some names; drawn are {some}{more} "
                "(install a font for their script, for example Noto Sans)"
            ),
            stacklevel=2,
        )
    return found


_told: set[str] = set()


@lru_cache(4096)
def _drawable(text: str) -> Drawable:
    usual = _usual_font()
    letters = frozenset(sign for sign in text if _is_seen(sign))
    if _has(usual, letters):
        return Drawable(text, usual)
    for file in _fonts_of_the_machine():
        if _has(file, letters):
            return Drawable(text, file)
    return Drawable(_transliterated(text), usual)


def _transliterated(text: str) -> str:
    """The text in Latin letters; a sign without a reading as its number."""
    try:
        from anyascii import anyascii
    except ImportError:  # then numbers have to do

        def anyascii(string: str) -> str:
            return ""

    return "".join(
        sign if sign.isascii() else anyascii(sign) or f"U+{ord(sign):04X}" for sign in text
    ).strip()


@cache
def _usual_font() -> Path | None:
    """matplotlib's DejaVu Sans, which has the letters of most alphabets; found without importing
    matplotlib."""
    spec = find_spec("matplotlib")
    if spec is None or spec.origin is None:
        return None
    file = Path(spec.origin).parent / "mpl-data" / "fonts" / "ttf" / "DejaVuSans.ttf"
    return file if file.is_file() else None


def _is_seen(sign: str) -> bool:
    """Whether a sign leaves a mark of its own: no space, no control."""
    return not unicodedata.category(sign).startswith(("Z", "C"))


@lru_cache(1024)
def _has(file: Path | None, letters: frozenset[str]) -> bool:
    """Whether a font draws each letter otherwise than one that it lacks."""
    try:
        font = _opened(file, 24)
        lacking = _drawn(font, _NO_LETTER)
        return all(_drawn(font, letter) != lacking for letter in letters)
    except (OSError, ValueError):  # no font, a damaged one, or one of images only
        return False


def _drawn(font: ImageFont.FreeTypeFont, letter: str) -> tuple[tuple[int, int], bytes]:
    mask = font.getmask(letter, mode="L")
    return mask.size, bytes(mask)


@lru_cache(64)
def _opened(file: Path | None, size: int) -> ImageFont.FreeTypeFont:
    if file is not None:
        return ImageFont.truetype(str(file), size)
    own = ImageFont.load_default(size)
    assert isinstance(own, ImageFont.FreeTypeFont)
    return own


@cache
def _fonts_of_the_machine() -> tuple[Path, ...]:
    """All font files, those with many letters first."""
    found = {file for folder in _folders() for file in _files_below(folder)}
    return tuple(
        sorted(found, key=lambda file: (not any(w in file.name.lower() for w in _WIDE), str(file)))
    )


def _folders() -> list[Path]:
    """Where fonts are, by the rules of freedesktop.org and macOS."""
    home = Path(os.environ.get("HOME") or "~").expanduser()
    data = Path(os.environ.get("XDG_DATA_HOME") or home / ".local/share")
    shared = (os.environ.get("XDG_DATA_DIRS") or "/usr/local/share:/usr/share").split(":")
    folders = [home / ".fonts", data / "fonts", *(Path(each) / "fonts" for each in shared if each)]
    if sys.platform == "darwin":
        folders += [home / "Library/Fonts", Path("/Library/Fonts"), Path("/System/Library/Fonts")]
    return folders


def _files_below(folder: Path) -> Iterator[Path]:
    for parent, _, names in os.walk(folder):
        yield from (Path(parent) / name for name in names if name.lower().endswith(_SUFFIXES))
