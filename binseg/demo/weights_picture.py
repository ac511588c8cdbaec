"""1-bit weights as black and white cells, and one sum of products worked out with them."""

import numpy as np

_ROWS, _COLUMNS = 4, 8
_CELL = 12
_TILE = 3 * _CELL + 8
_TOP = 34  # of the kernels
_BIG = 18  # cells of the worked example
_STEP = 3 * _BIG + 46
_BELOW = _TOP + _ROWS * _TILE + 42  # top of its cells
_WIDTH, _HEIGHT = 412, _BELOW + 3 * _BIG + 40


def weights_picture(layer: str, signs: np.ndarray) -> str:
    """Kernels of a layer, and what XNOR and the population count make of the first one.

    Args:
        layer: its name.
        signs: bool (C_out, C_in, 3, 3), True for +1.

    Returns:
        An SVG element; its text takes the color of the page's.
    """
    kernels = signs.reshape(-1, 3, 3)
    shown = kernels[: _ROWS * _COLUMNS]
    parts = [_text(0, 16, f"{len(shown)} of {len(kernels):,} kernels of {layer}")]
    for index, kernel in enumerate(shown):
        x, y = index % _COLUMNS * _TILE, _TOP + index // _COLUMNS * _TILE
        parts.append(_cells(kernel, x, y, _CELL))
    parts.append(
        f'<rect x="-3" y="{_TOP - 3}" width="{3 * _CELL + 6}" height="{3 * _CELL + 6}" '
        'fill="none" stroke="#e8590c" stroke-width="2.5"/>'
    )
    parts += _example(shown[0])
    caption = (
        f"Black and white cells: the 1-bit weights of {len(shown)} kernels, and the first of them "
        "applied to nine signs of a map"
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="-6 0 {_WIDTH} {_HEIGHT}" role="img" '
        f'width="100%" style="max-width:{_WIDTH}px" aria-label="{caption}" '
        f'font-family="sans-serif" font-size="13" fill="currentColor">{"".join(parts)}</svg>'
    )


def _example(kernel: np.ndarray) -> list[str]:
    """Kernel, signs of a map, which of them are equal, and the sum."""
    # a corner, as an edge detector would like it; any nine signs would do
    signs = np.array([[1, 1, 1], [1, 0, 0], [1, 0, 0]], dtype=bool)
    equal = kernel == signs
    number = int(equal.sum())
    parts = []
    columns = (("weights", kernel, "XNOR"), ("map", signs, "="), ("equal", equal, "→"))
    for index, (title, cells, then) in enumerate(columns):
        x = index * _STEP
        parts.append(_text(x, _BELOW - 10, title))
        parts.append(_cells(cells, x, _BELOW, _BIG))
        parts.append(_text(x + (_STEP + 3 * _BIG) / 2, _BELOW + 1.7 * _BIG, then, "middle"))
    x, y = 3 * _STEP, _BELOW + 3 * _BIG + 20
    parts += [
        _text(x, _BELOW + 1.2 * _BIG, f"popcount {number}"),
        _text(x, _BELOW + 2.3 * _BIG, f"2·{number} − 9 = {2 * number - 9:+d}".replace("-", "−")),
        _cells(np.array([[True]]), 0, y, _CELL),
        _text(20, y + 11, "+1, or equal"),
        _cells(np.array([[False]]), 130, y, _CELL),
        _text(150, y + 11, "−1, or not equal"),
    ]
    return parts


def _cells(signs: np.ndarray, x: float, y: float, side: int) -> str:
    return "".join(
        f'<rect x="{x + column * side}" y="{y + row * side}" width="{side}" height="{side}" '
        f'fill="{"#fff" if sign else "#111"}" stroke="#888"/>'
        for (row, column), sign in np.ndenumerate(signs)
    )


def _text(x: float, y: float, text: str, anchor: str = "start") -> str:
    return f'<text x="{x}" y="{y}" text-anchor="{anchor}">{text}</text>'
