"""The table of the tab that explains a network, as HTML."""

from html import escape

from binseg.demo.explain import COLUMNS, Explanation

_TEXTS = 3
"""Columns from the left that hold words; the rest hold numbers."""


def layer_table(found: Explanation) -> str:
    """A row for each layer, the sums in the last one."""
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in COLUMNS)
    *layers, total = (_row(cells) for cells in found.rows)
    return (
        '<div class="layers" tabindex="0" role="region" aria-label="Layers of the network">'
        f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(layers)}</tbody>"
        f"<tfoot>{total}</tfoot></table></div>"
    )


def _row(cells: list[str]) -> str:
    name, *others = (escape(cell) for cell in cells)
    words, numbers = others[: _TEXTS - 1], others[_TEXTS - 1 :]
    columns = [f"<td>{cell}</td>" for cell in words]
    columns += [f'<td class="number">{cell}</td>' for cell in numbers]
    return f'<tr><th scope="row">{name}</th>{"".join(columns)}</tr>'
