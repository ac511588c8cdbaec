"""The site builds without a warning, and asks no other host for anything."""

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from doc_pages import ROOT

if importlib.util.find_spec("mkdocs") is None:
    pytest.skip("mkdocs is not installed: pip install 'binseg[docs]'", allow_module_level=True)


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    command = ["build", "--strict", "--quiet", "-f", ROOT / "tools/site/mkdocs.yml", "-d", folder]
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", *map(str, command)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
    )
    assert done.returncode == 0, done.stderr
    return folder


def test_pages_from_outside_docs_are_in_it(site):
    home = (site / "index.html").read_text()
    assert "1-bit weights and activations" in home
    assert 'href="how-to/own-data.html"' in home
    assert 'href="models/camvid-base.html"' in home
    assert "configs/compare/camvid_models.yaml" in (site / "how-to/train.html").read_text()
    assert "Predictor" in (site / "api.html").read_text()


def test_it_loads_nothing_from_other_hosts(site):
    for page in site.rglob("*.html"):
        loaded = re.findall(
            r'<(?:script|img|iframe|source)[^>]*?\bsrc(?:set)?="([^"]+)"|<link[^>]*?\bhref="([^"]+)"',
            page.read_text(),
        )
        assert not [to for pair in loaded for to in pair if re.match(r"(https?:)?//", to)], page
    for sheet in site.rglob("*.css"):
        assert not re.search(r"url\(['\"]?(https?:)?//", sheet.read_text()), sheet
