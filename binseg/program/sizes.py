"""Heights and widths of all values of a program, for an image of one size."""

from collections.abc import Mapping, Sequence
from typing import Any

from binseg.program.program import IMAGE, Operator, Program, ProgramError
from binseg.program.types import MAX_PIXELS, MAX_SIDE

Size = tuple[int, int]
"""(height, width) in pixels."""

_BIT_CONVOLUTIONS = ("conv_bits", "conv_real", "conv_merge")
_WINDOWS = ("conv_int8", "conv_int8_pool", "conv", "max_pool", "avg_pool")


def value_sizes(program: Program, height: int, width: int) -> dict[int, Size]:
    """The size of each value; all outputs of one operator have the same.

    Args:
        program: that `check` has found good.
        height, width: of the image.

    Raises:
        ProgramError: the image is too small or too large for the network, or of a size that it
            does not fit; the message names the operator.
    """
    sizes = {IMAGE: (height, width)}
    if height < 1 or width < 1:
        raise ProgramError(f"the image of {width}×{height} pixels is empty")
    _refuse_large((height, width), "the image")
    for index, operator in enumerate(program.operators):
        name = f"operator {index} ({operator.kind})"
        inputs = [sizes[value] for value in operator.inputs]
        size = operator_size(operator, inputs, name)
        if min(size) < 1:
            raise ProgramError(
                f"the image of {width}×{height} pixels is too small for this network: {name} "
                "leaves no pixel"
            )
        _refuse_large(size, f"what {name} makes")
        sizes |= dict.fromkeys(operator.outputs.values(), size)
    return sizes


def operator_size(operator: Operator, inputs: Sequence[Size], name: str) -> Size:
    """The size of an operator's outputs; a side may be below 1.

    Args:
        operator: of a checked program.
        inputs: sizes of its inputs.
        name: what an error calls it.

    Raises:
        ProgramError: the inputs' sizes do not go together.
    """
    size = _result(operator, inputs, name)
    _check_second(operator, inputs, size, name)
    return size


def window_count(
    length: int, kernel: int, stride: int, before: int, after: int, dilation: int, *, ceil: bool
) -> int:
    """How many windows a convolution or pooling puts along one axis; below 1 if none fits.

    Args:
        length: pixels of the input.
        kernel, stride, dilation: of the window.
        before, after: pixels of border.
        ceil: also a last window that reaches beyond the border, if it starts inside the image or
            the border before it.
    """
    room = length + before + after - dilation * (kernel - 1) - 1
    if not ceil:
        return room // stride + 1
    count = -(-room // stride) + 1
    return count - 1 if (count - 1) * stride >= length + before else count


def windows_over(attributes: Mapping[str, Any], size: Size) -> Size:
    """The size of the result of a convolution of bytes or real numbers, or of a pooling."""
    top, left, bottom, right = attributes["pads"]
    ceil = attributes.get("ceil", False)
    (kernel_h, kernel_w), (stride_h, stride_w) = attributes["kernel"], attributes["stride"]
    dilation_h, dilation_w = attributes.get("dilation", (1, 1))
    return (
        window_count(size[0], kernel_h, stride_h, top, bottom, dilation_h, ceil=ceil),
        window_count(size[1], kernel_w, stride_w, left, right, dilation_w, ceil=ceil),
    )


def _result(operator: Operator, inputs: Sequence[Size], name: str) -> Size:
    attributes, (height, width) = operator.attributes, inputs[0]
    match operator.kind:
        case kind if kind in _BIT_CONVOLUTIONS:
            stride = attributes["stride"]
            return -(-height // stride), -(-width // stride)
        case kind if kind in _WINDOWS:
            size = windows_over(attributes, inputs[0])
            if kind == "conv_int8_pool" and min(size) > 0:
                size = (size[0] - 1) // 2 + 1, (size[1] - 1) // 2 + 1
            return size
        case "spatial_mean":
            return 1, 1
        case "adaptive_avg_pool":
            return attributes["size"][0], attributes["size"][1]
        case "flatten":
            if (height, width) != (attributes["height"], attributes["width"]):
                raise ProgramError(
                    f"{name} takes {attributes['width']}×{attributes['height']} pixels and gets "
                    f"{width}×{height}: the image's size does not fit this network"
                )
            return 1, 1
        case "resize" if "scale" in attributes:
            return height * attributes["scale"][0], width * attributes["scale"][1]
        case "resize" | "crop":
            return inputs[1]
        case "pad":
            multiple = attributes["multiple"]
            return -(-height // multiple) * multiple, -(-width // multiple) * multiple
        case "concat":
            return next((size for size in inputs if size != (1, 1)), (1, 1))
    return height, width


def _check_second(operator: Operator, inputs: Sequence[Size], size: Size, name: str) -> None:
    """That the other inputs are of a size that goes with the result's."""
    match operator.kind:
        case "conv_real" | "conv_merge" | "conv_int8" | "conv" | "affine":
            fits = all(other == size for other in inputs[1:])
        case "pack_sign":
            fits = all(other == (1, 1) for other in inputs[1:])
        case "add" | "mul":
            fits = inputs[1] in (size, (1, 1))
        case "resize":
            fits = all(other == size for other in inputs[1:])
        case "concat":
            fits = all(other in (size, (1, 1)) for other in inputs)
        case "crop":
            fits = size[0] <= inputs[0][0] and size[1] <= inputs[0][1]
        case _:
            fits = True
    if not fits:
        found = " and ".join(f"{w}×{h}" for h, w in inputs)
        raise ProgramError(
            f"{name} gets values of {found} pixels, which do not go together: the image's size "
            "does not fit this network"
        )


def _refuse_large(size: Size, what: str) -> None:
    height, width = size
    if max(size) > MAX_SIDE or height * width > MAX_PIXELS:
        raise ProgramError(
            f"{what} of {width}×{height} pixels is too large (the limits: {MAX_SIDE} along a side, "
            f"{MAX_PIXELS} in all); give a smaller image"
        )
