"""Pages of the site that lie outside docs/, and links to files that are no pages.

README.md, the cards of the shipped networks and a few more are written for people who read the
repository; the site shows the same files. A link to a file that the site does not have (a
configuration, say) becomes its path in the repository.
"""

import os
import re
from pathlib import Path, PurePosixPath
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[2]
CARDS = [card.name for card in ROOT.glob("binseg/models/*.md")]
PAGES = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "weights/README.md": "weights.md",
    **{f"binseg/models/{card}": f"models/{card}" for card in CARDS},
}
"""File in the repository → page of the site; docs/X is page X."""

_LINK = re.compile(r"(!?)\[([^\[\]]*)\]\(([^)\s]+)\)")
_SOURCE = re.compile(r'\bsrc="([^"]+)"')


def on_config(config: Any) -> Any:
    """Add the how-tos and the cards that the navigation does not name, under their own headings."""
    sections = {title: pages for section in config["nav"] for title, pages in section.items()}
    how_tos = [f"how-to/{page.name}" for page in (ROOT / "docs/how-to").glob("*.md")]
    for title, pages in (("How to", how_tos), ("Networks", [f"models/{card}" for card in CARDS])):
        sections[title] += [page for page in sorted(pages) if page not in str(config["nav"])]
    return config


def on_files(files: Files, config: Any) -> Files:
    """Add the pages from outside docs/."""
    for source, page in PAGES.items():
        files.append(File.generated(config, page, abs_src_path=str(ROOT / source)))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """Point the page's links at pages of the site."""
    here = PurePosixPath(page.file.src_uri)
    source = next((source for source, uri in PAGES.items() if uri == str(here)), f"docs/{here}")
    folder = PurePosixPath(source).parent

    def target(link: str) -> str | None:
        """What a link of the repository is on this page of the site; None for no page."""
        path, _, anchor = link.partition("#")
        full = os.path.normpath(folder / path)
        uri = PAGES.get(full) or full.removeprefix("docs/")
        if (full not in PAGES and not full.startswith("docs/")) or uri not in files.src_uris:
            return None
        return os.path.relpath(uri, here.parent or ".") + (f"#{anchor}" if anchor else "")

    def link(match: re.Match[str]) -> str:
        mark, text, to = match.groups()
        if re.match(r"[a-z]+:|#", to):
            return match[0]
        if (found := target(to)) is not None:
            return f"{mark}[{text}]({found})"
        name = os.path.normpath(folder / to.partition("#")[0])
        return text if name in text else f"{text} (`{name}`)"

    def attribute(match: re.Match[str]) -> str:
        return f'src="{target(match[1]) or match[1]}"'

    blocks = re.split(r"(^```.*?^```)", markdown, flags=re.DOTALL | re.MULTILINE)
    for index in range(0, len(blocks), 2):  # the others are code
        blocks[index] = _SOURCE.sub(attribute, _LINK.sub(link, blocks[index]))
    return "".join(blocks)
