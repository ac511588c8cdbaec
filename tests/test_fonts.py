"""Names in any script: found fonts, and other letters where there are none.

The fonts are made here, so that it does not matter what the machine has.
"""

import sys
import warnings

import numpy as np
import pytest
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen

from binseg import fonts
from binseg.data.labels import LabelTable
from binseg.errors import BinsegWarning
from binseg.fonts import drawable
from binseg.visualize import legend


def write_font(path, letters: str) -> None:
    """A font whose letters are boxes of different widths."""
    path.parent.mkdir(parents=True, exist_ok=True)
    names = [".notdef", *(f"u{ord(letter):X}" for letter in letters)]
    builder = FontBuilder(1000, isTTF=True)
    builder.setupGlyphOrder(names)
    builder.setupCharacterMap(dict(zip(map(ord, letters), names[1:], strict=True)))
    glyphs = {}
    for number, name in enumerate(names):
        pen = TTGlyphPen(None)
        pen.moveTo((50, 0))
        for x, y in ((50, 700), (300 + 40 * number, 700), (300 + 40 * number, 0)):
            pen.lineTo((x, y))
        pen.closePath()
        glyphs[name] = pen.glyph()
    builder.setupGlyf(glyphs)
    builder.setupHorizontalMetrics(dict.fromkeys(names, (1000, 50)))
    builder.setupHorizontalHeader(ascent=800, descent=-200)
    builder.setupNameTable({"familyName": path.stem, "styleName": "Regular"})
    builder.setupOS2(sTypoAscender=800, sTypoDescender=-200)
    builder.setupPost()
    builder.save(path)


@pytest.fixture(autouse=True)
def machine(tmp_path, monkeypatch):
    """A machine with no fonts but those that a test puts into the folder."""
    for name in ("HOME", "XDG_DATA_HOME", "XDG_DATA_DIRS"):
        monkeypatch.setenv(name, str(tmp_path / name))
    monkeypatch.setattr(fonts, "_told", set())
    for cached in (fonts._drawable, fonts._fonts_of_the_machine, fonts._has):
        cached.cache_clear()
    yield tmp_path / "XDG_DATA_HOME" / "fonts"
    for cached in (fonts._drawable, fonts._fonts_of_the_machine, fonts._has):
        cached.cache_clear()


def quiet(texts: list[str]) -> list[fonts.Drawable]:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return drawable(texts)


def test_usual_letters_need_no_other_font(machine):
    write_font(machine / "a.ttf", "road")
    names = ["road", "café", "дорога", "δρόμος", "a b\u00ad", ""]
    found = quiet(names)
    assert [each.text for each in found] == names
    assert {each.file for each in found} == {fonts._usual_font()}


def test_a_font_of_the_machine_that_has_all_letters_is_used(machine):
    write_font(machine / "half.ttf", "道")
    write_font(machine / "deep" / "Noto.TTF", "道路 ab")
    (machine / "broken.ttf").write_bytes(b"no font")
    (found,) = quiet(["道路 ab"])
    assert found == fonts.Drawable("道路 ab", machine / "deep" / "Noto.TTF")


def test_a_legend_shows_the_letters_of_that_font(machine):
    write_font(machine / "cjk.ttf", "道路")
    tables = [LabelTable("t", (name,), ((9, 9, 9),), {0: 0}) for name in ("道道", "路路", "道路")]
    panels = [legend(table) for table in tables]
    assert len({panel.tobytes() for panel in panels}) == 3


def test_without_a_font_a_name_is_transliterated_with_one_note(machine):
    names = ["道路", "도로", "ok", "道路 2"]
    with pytest.warns(BinsegWarning, match=r"no font .*'道路' as 'DaoLu'.*Noto") as caught:
        found = drawable(names)
    assert len(caught) == 1
    assert [each.text for each in found] == ["DaoLu", "DoLo", "ok", "DaoLu 2"]
    assert quiet(names) == found  # said once


def test_without_a_reading_a_sign_is_its_number(machine, monkeypatch):
    monkeypatch.setitem(sys.modules, "anyascii", None)
    with pytest.warns(BinsegWarning):
        (found,) = drawable(["道 a"])
    assert found.text == "U+9053 a"


def test_pillows_own_font_where_there_is_no_matplotlib(monkeypatch):
    monkeypatch.setattr(fonts, "_usual_font", lambda: None)
    (found,) = quiet(["road"])
    assert found.file is None
    table = LabelTable("t", ("road",), ((9, 9, 9),), {0: 0})
    assert np.unique(legend(table)).size > 3
