"""Figures on the pages are those of the results."""

import importlib.util
import re

import pytest
from doc_pages import README, ROOT

spec = importlib.util.spec_from_file_location("figures", ROOT / "tools/figures.py")
assert spec is not None
figures = importlib.util.module_from_spec(spec)
spec.loader.exec_module(figures)  # type: ignore[union-attr]

CLAIMS = figures.claims()


@pytest.mark.parametrize("page", sorted({claim.page for claim in CLAIMS}))
def test_figures_are_those_of_the_results(page):
    problems = [claim.problem() for claim in CLAIMS if claim.page == page]
    assert not [problem for problem in problems if problem]


@pytest.mark.parametrize("page", figures.BLOCKS)
def test_tables_are_those_of_the_results(page):
    assert figures.block_problem(page) is None


def test_a_wrong_figure_is_found_and_corrected(tmp_path, monkeypatch):
    monkeypatch.setattr(figures, "ROOT", tmp_path)
    page = tmp_path / "page.md"
    page.write_text("It takes\n4.1 ms and 2 MB.\n")
    claim = figures.Claim("page.md", "takes {:.1f} ms and {:.0f} MB", (4.26, 2.0))
    assert "takes 4.3 ms" in claim.problem()
    figures.write(claim)
    assert page.read_text() == "It takes\n4.3 ms and 2 MB.\n"
    assert claim.problem() is None
    page.write_text("It takes no time.\n")
    assert "nowhere says" in claim.problem()


MEASURED = re.compile(
    r"(?<![\w.-])(?:\d+\.\d+|\d[\d,]*"
    r"(?= ?(?:ms|s|min|minutes|seconds|kB|MB|GB|points|%|×)(?![\w×])))"
)
"""What looks measured: a number with a point, or with a unit."""
STATED = {
    # what a trial took, with what was tried
    "docs/architecture.md": ("31 s of", "37 s of", "35 s of"),
    "README.md": ("Python 3.11", "95 %"),
    "docs/how-to/ship-cpu.md": ("Python 3.11",),
    "docs/how-to/ship-arm.md": ("Python 3.11",),
    "docs/how-to/evaluate.md": ("95 %",),
    "docs/how-to/import-annotations.md": ("mask 1.1",),
    "docs/how-to/serve.md": ("127.0.0.1",),
    "docs/how-to/compare.md": ("95 %",),
    "docs/results/README.md": ("torch 2.15",),
}
"""Numbers without a file of results: versions, levels of confidence."""


def open_pages() -> list[str]:
    pages = [README, *ROOT.glob("docs/*.md"), *ROOT.glob("docs/how-to/*.md")]
    reference = {"docs/program.md", "docs/runtime.md"}  # definitions
    names = {page.relative_to(ROOT).as_posix() for page in pages} - reference
    return sorted({*names, "docs/results/README.md", "docs/results/speed.md"})


def without_source(page: str) -> list[str]:
    """Figures of a page that no claim and no table of results holds, with their surroundings."""
    text = (ROOT / page).read_text()
    held = [claim.pattern for claim in CLAIMS if claim.page == page]
    held += [re.compile(re.escape(stated)) for stated in STATED.get(page, ())]
    held += [
        re.compile(rf"```.*?```|`[^`\n]*`|\]\([^)]*\)|{figures.START}.*{figures.END}", re.DOTALL)
    ]
    spans = [match.span() for pattern in held for match in pattern.finditer(text)]
    return [
        text[max(0, match.start() - 40) : match.end() + 10].replace("\n", " ")
        for match in MEASURED.finditer(text)
        if not any(start <= match.start() and match.end() <= end for start, end in spans)
    ]


@pytest.mark.parametrize("page", open_pages())
def test_no_figure_is_without_a_source(page):
    assert not without_source(page)


def test_a_figure_without_a_source_is_found(tmp_path, monkeypatch):
    monkeypatch.setitem(globals(), "ROOT", tmp_path)
    (tmp_path / "page.md").write_text("`5 ms` of K = 2 in int8; it takes 5 ms, or 0.71 of them.\n")
    assert len(without_source("page.md")) == 2


PAGES_WITH_FIGURES = sorted(
    {claim.page for claim in CLAIMS if not claim.page.endswith("results.md")}
)
"""What `binseg compare` has written is described by the page that links to it."""


@pytest.mark.parametrize("page", PAGES_WITH_FIGURES)
def test_a_page_with_figures_has_the_command_that_made_them(page):
    """Or a link to the page that has it."""
    made = (
        r"binseg (compare|bench|train|evaluate|data bench)|python (docs|tools)/|\]\([^)]*results/"
    )
    assert re.search(made, (ROOT / page).read_text())


def test_where_1_bit_loses_is_in_the_readme():
    text = " ".join(README.read_text().split())
    assert "with AMX the twin of `camvid-base` in int8 is faster" in text
    assert [each for each in figures.losses() if "`camvid-base` with AMX" in each]
