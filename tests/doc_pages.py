"""The pages that people read: all Markdown files, and what their code blocks hold."""

import re
import textwrap
from pathlib import Path

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
PAGES = sorted(
    path
    for folder in (".", "docs", "binseg", "weights")
    for path in (ROOT.glob("*.md") if folder == "." else (ROOT / folder).rglob("*.md"))
)


def name(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def blocks(page: Path, language: str) -> list[str]:
    """The content of a page's code blocks of one language."""
    found = re.findall(rf"^( *)```{language}\n(.*?)^ *```", page.read_text(), re.DOTALL | re.M)
    return [textwrap.dedent(block) for _, block in found]


def shell_lines(page: Path) -> list[str]:
    """Lines of the page's shell blocks, continued lines joined, without comments."""
    lines = "\n".join(blocks(page, "sh")).replace("\\\n", " ").splitlines()
    return [line.split("  #")[0].strip() for line in lines if line and not line.startswith("#")]


def commands(page: Path) -> list[str]:
    """Arguments of every `binseg …`, also behind torchrun and docker."""
    found = [re.search(r"(?:^|-m |\d |\" )binseg (.*)", line) for line in shell_lines(page)]
    return [match[1].split(" > ")[0] for match in found if match]
