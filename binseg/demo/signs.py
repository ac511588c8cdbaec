"""What the first 1-bit layer makes of the visitor's own image: signs, one kernel, the count."""

import base64
from dataclasses import dataclass
from html import escape
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image

from binseg.data.preprocess import Preprocessing, resize_image
from binseg.inference.protocol import input_size
from binseg.program.file import read_program
from binseg.program.interpreter import Interpreter
from binseg.program.program import Operator, Program
from binseg.program.tensors import unpack_bits
from binseg.summarize.programs import BIT_CONVOLUTIONS, operator_name

_SHOWN = 12  # maps, kernels


@dataclass(frozen=True)
class FirstSigns:
    """The signs that reach the first 1-bit layer with 3x3 kernels, and its weights.

    Attributes:
        layer: its name.
        kernels: bool (C_out, C_in, 3, 3), True for +1.
        maps: bool (H, W, C_in), the signs of an image on the layer's grid.
        window: bool (C_in, 3, 3), those that its kernels see at one place.
        place: (row, column) of the window's middle on the maps.
        places: that the kernels go to.
    """

    layer: str
    kernels: np.ndarray
    maps: np.ndarray
    window: np.ndarray
    place: tuple[int, int]
    places: int

    @property
    def equal(self) -> int:
        """How many of the first kernel's weights equal the sign that they meet."""
        return int((self.kernels[0] == self.window).sum())

    @property
    def sum(self) -> int:
        """Of the products of ±1 and ±1."""
        return 2 * self.equal - self.window.size


def first_signs(path: Path, image: np.ndarray) -> FirstSigns | None:
    """Run a packed network up to its first 1-bit layer with 3x3 kernels.

    Args:
        path: of its file.
        image: HWC uint8 RGB.

    Returns:
        None if it has no such layer.

    Raises:
        BinsegError: the file is damaged, or the image too small for the network.
    """
    program, header = read_program(path)
    index = next((i for i, each in enumerate(program.operators) if _is_binary(each)), None)
    if index is None:
        return None
    operator = program.operators[index]
    size = input_size(Preprocessing.from_dict(header["preprocessing"]), *image.shape[:2])
    values = Interpreter(program).values(resize_image(image, size))
    bits = next(array for value, array in values if value == operator.inputs[0])
    maps = bits[:, :, 0]
    reach = operator.attributes["dilations"][0]
    height, width = maps.shape[:2]
    stride = operator.attributes["stride"]
    place = height // 2 // stride * stride, width // 2 // stride * stride
    rows, columns = (
        np.clip(middle + np.array([-reach, 0, reach]), 0, side - 1)
        for middle, side in zip(place, (height, width), strict=True)
    )
    window = maps[np.ix_(rows, columns)].transpose(2, 0, 1)
    return FirstSigns(
        operator_name(program, index),
        _weights(program, operator),
        maps,
        window,
        place,
        -(-height // stride) * -(-width // stride),
    )


def _is_binary(operator: Operator) -> bool:
    return operator.kind in BIT_CONVOLUTIONS and operator.attributes["kernel"] == [3, 3]


def _weights(program: Program, operator: Operator) -> np.ndarray:
    found = operator.attributes
    bases = 1 if found.get("shared_weight") else len(found["dilations"])
    shape = (bases * found["out_channels"], 3, 3, found["in_channels"])
    return unpack_bits(program.tensors[operator.tensors["weight"]], shape).transpose(0, 3, 1, 2)


def signs_html(found: FirstSigns) -> str:
    """The maps of some channels, some kernels, and the sum at the marked place, as HTML."""
    height, width = found.maps.shape[:2]
    shown = min(_SHOWN, found.maps.shape[2])
    maps = "".join(
        f'<span class="map">{_png(found.maps[:, :, channel], f"signs of channel {channel}")}'
        f'<i style="left:{100 * (found.place[1] + 0.5) / width:.2f}%;'
        f'top:{100 * (found.place[0] + 0.5) / height:.2f}%"></i></span>'
        for channel in range(shown)
    )
    kernel, window = found.kernels[0], found.window
    rows = (
        ("signs of the image", window),
        ("weights of one kernel", kernel),
        ("equal (XNOR)", kernel == window),
    )
    cells = "".join(
        f"<tr><th scope=row>{title}</th>"
        + "".join(f"<td>{_png(each, '')}</td>" for each in signs[:_SHOWN])
        + "</tr>"
        for title, signs in rows
    )
    count, total = found.equal, found.window.size
    product = f"{found.sum:+d}".replace("-", "−")
    return (
        '<div class="signs"><h3>Your image, as the first 1-bit layer sees it</h3>'
        f"<p>{shown} of {found.maps.shape[2]} maps of signs, {width} x {height} each: white is "
        "+1, black is −1. The mark is where the sum below is taken.</p>"
        f'<div class="maps">{maps}</div>'
        f"<h3>One sum of {escape(found.layer)}</h3>"
        f'<div class="sums"><table>{cells}</table></div>'
        f'<p class="count">{count} of {total} are equal: 2 · {count} − {total} = '
        f"<b>{product}</b></p>"
        f"<p>{shown} of {found.maps.shape[2]} channels are drawn; the count is over all. This "
        f"layer does it with {len(found.kernels):,} kernels at {found.places:,} places.</p></div>"
    )


def _png(signs: np.ndarray, text: str) -> str:
    buffer = BytesIO()
    Image.fromarray(np.where(signs, 255, 17).astype(np.uint8)).save(buffer, "PNG")
    data = base64.b64encode(buffer.getvalue()).decode()
    return f'<img src="data:image/png;base64,{data}" alt="{text}">'
