"""Links of all pages lead somewhere. Other hosts are listed here, and not asked."""

import re
from functools import cache
from itertools import pairwise
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from doc_pages import PAGES, README, ROOT, name
from markdown_it import MarkdownIt

import binseg

HOSTS = {
    "127.0.0.1",
    "doi.org",
    "github.com",
    "keepachangelog.com",
    "mi.eng.cam.ac.uk",
    "pytorch.org",
    "semver.org",
    "www.cityscapes-dataset.com",
}


@cache
def parsed(page: Path) -> list:
    return MarkdownIt("commonmark").enable("table").parse(page.read_text())


def links(page: Path) -> list[str]:
    """Targets of links and images, in Markdown and in HTML."""
    found = []
    for token in parsed(page):
        for each in [token, *(token.children or [])]:
            found += [value for key in ("href", "src") if (value := each.attrGet(key))]
            if each.type in ("html_inline", "html_block"):
                found += re.findall(r'\b(?:href|src|srcset)="([^"]+)"', each.content)
    return found


@cache
def anchors(page: Path) -> set[str]:
    """Of the page's headings, as GitHub makes them."""
    found: set[str] = set()
    tokens = parsed(page)
    for heading, inline in pairwise(tokens):
        if heading.type == "heading_open":
            shown = "".join(child.content for child in inline.children)
            slug = re.sub(r"[^\w\- ]", "", shown.lower()).replace(" ", "-")
            number = sum(each == slug or each.startswith(f"{slug}-") for each in found)
            found.add(f"{slug}-{number}" if slug in found else slug)
    return found


def problem(page: Path, link: str) -> str | None:
    """What is wrong with a link; None if nothing is."""
    parts = urlsplit(link)
    if parts.scheme:
        return None if parts.hostname in HOSTS else "a host that HOSTS does not list"
    target = (page.parent / unquote(parts.path)).resolve() if parts.path else page
    if not target.is_relative_to(ROOT) or not target.exists():
        return "no such file"
    if parts.fragment and (target.suffix != ".md" or parts.fragment not in anchors(target)):
        return "no such heading"
    return None


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_link_leads_somewhere(page):
    wrong = [f"{link}: {why}" for link in links(page) if (why := problem(page, link))]
    assert not wrong


def test_broken_links_are_found(tmp_path, monkeypatch):
    monkeypatch.setitem(globals(), "ROOT", tmp_path)
    other, page = tmp_path / "other.md", tmp_path / "page.md"
    other.write_text("# What is `1 bit`?\n\n## Twice\n\n## Twice\n")
    page.write_text("")
    for link in ("other.md", "other.md#what-is-1-bit", "other.md#twice-1", "https://pytorch.org/x"):
        assert problem(page, link) is None
    for link in ("gone.md", "other.md#gone", "../up.md", "https://tracker.example/x"):
        assert problem(page, link)


def unreached() -> list[str]:
    """Pages to which no links lead from the README; how-tos are in the site's navigation."""
    reached: set[Path] = set()
    todo = [README]
    while todo:
        page = todo.pop()
        if page not in reached:
            reached.add(page)
            found = [(page.parent / urlsplit(link).path).resolve() for link in links(page)]
            todo += [target for target in found if target in PAGES]
    return [name(page) for page in PAGES if page not in reached and page.parent.name != "how-to"]


def test_every_page_can_be_reached():
    assert not unreached()


def test_the_page_of_the_api_has_every_public_name():
    shown = re.findall(r"^::: (\S+)$", (ROOT / "docs/api.md").read_text(), re.MULTILINE)
    assert {f"{home}.{public}" for public, home in binseg._HOMES.items()} <= set(shown)
