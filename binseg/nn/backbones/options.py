"""Checks that the options of all families share."""

from typing import Any, Literal, get_args, get_origin, get_type_hints

from binseg.errors import BinsegError, unknown_name


def check_choices(options: Any) -> None:
    """Refuse a value that its field's Literal type does not list.

    Args:
        options: a dataclass.

    Raises:
        BinsegError: with the nearest value that is listed.
    """
    for name, hint in get_type_hints(type(options)).items():
        if get_origin(hint) is Literal and getattr(options, name) not in get_args(hint):
            kind = name.replace("_", " ")
            raise unknown_name(kind, str(getattr(options, name)), get_args(hint))


def check_width(width: int, multiple: int) -> None:
    """Refuse channels of the first stage that are no multiple, or more than a machine can hold.

    Raises:
        BinsegError: with what is asked for.
    """
    if not multiple <= width <= 1024 or width % multiple:
        raise BinsegError(f"the width must be a multiple of {multiple} up to 1024, not {width}")


def check_output_stride(stride: int) -> None:
    """Refuse an output stride that no backbone has.

    Raises:
        BinsegError: with what is asked for.
    """
    if stride not in (8, 16, 32):
        raise BinsegError(f"the output stride must be 8, 16 or 32, not {stride}")


def check_clip(clip: float) -> None:
    """Refuse an end of the clipped gradients that leaves none.

    Raises:
        BinsegError: with what is asked for.
    """
    if not clip > 0:
        raise BinsegError(f"the clip must be above 0, not {clip}")
