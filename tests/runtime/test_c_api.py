"""The C API answers misuse with a code and one line, never with a crash."""

import ctypes
from ctypes import POINTER, byref, c_float, c_int64, c_void_p

import numpy as np
import pytest
from model_files import model_file, small_file

from binseg.program.builder import ProgramBuilder
from binseg.runtime.library import ImageError, ModelError, Network, isas, library

OK, BAD_MODEL, BAD_ARGUMENT, BAD_IMAGE = range(4)


@pytest.fixture
def handle():
    file, found = small_file(), c_void_p()
    assert library().binseg_open(file, len(file), None, byref(found)) == OK
    yield found
    library().binseg_close(found)


def segment(handle, height, width, row, *, image=None, classes_row=None, classes=True) -> int:
    buffer = np.zeros(4096, np.uint8) if image is None else image
    out = np.zeros(4096, np.uint8)
    return library().binseg_segment(
        handle,
        buffer.ctypes.data if image is not False else None,
        height,
        width,
        row,
        out.ctypes.data if classes else None,
        width if classes_row is None else classes_row,
    )


@pytest.mark.parametrize(
    ("height", "width", "row", "words"),
    [
        (0, 4, 12, "empty"),
        (4, 0, 12, "empty"),
        (-1, 4, 12, "empty"),
        (4, 4, 11, "row_bytes"),
        (4, 4, 0, "row_bytes"),
        (4, 4, -12, "row_bytes"),
        (4, 4, 2**62, "row_bytes"),
        (65536, 1, 3, "too large"),
        (2**62, 2**62, 2**62, "too large"),
        (40000, 40000, 120000, "too large"),
    ],
)
def test_images_that_cannot_be(handle, height, width, row, words):
    assert segment(handle, height, width, row) == BAD_ARGUMENT
    assert words in library().binseg_error(handle).decode()


def test_null_pointers(handle):
    lib, some = library(), np.zeros(48, np.uint8)
    assert lib.binseg_segment(handle, None, 4, 4, 12, some.ctypes.data, 4) == BAD_ARGUMENT
    assert segment(handle, 4, 4, 12, classes=False) == BAD_ARGUMENT
    assert segment(handle, 4, 4, 12, classes_row=3) == BAD_ARGUMENT
    assert segment(None, 4, 4, 12) == BAD_ARGUMENT
    assert lib.binseg_error(None)
    lib.binseg_close(None)
    assert lib.binseg_open(b"", 0, None, None) == BAD_ARGUMENT
    found = c_void_p()
    assert lib.binseg_open(None, 8, None, byref(found)) == BAD_ARGUMENT
    assert b"null" in lib.binseg_error(found)
    lib.binseg_close(found)
    scores, size = POINTER(c_float)(), c_int64()
    image = (some.ctypes.data, 4, 4, 12)
    assert lib.binseg_scores(handle, *image, 1, None, byref(size), byref(size)) == BAD_ARGUMENT
    assert lib.binseg_scores(handle, *image, 1, byref(scores), None, byref(size)) == BAD_ARGUMENT
    assert lib.binseg_input_size(handle, 4, 4, None, byref(size)) == BAD_ARGUMENT
    assert lib.binseg_resize(None, 4, 4, 12, some.ctypes.data, 2, 2) == BAD_ARGUMENT
    assert lib.binseg_operator_name(handle, 99) == b""
    assert lib.binseg_operator_seconds(handle, -1) == 0


def test_a_handle_that_could_not_be_opened_refuses_everything():
    lib, found = library(), c_void_p()
    assert lib.binseg_open(b"nonsense", 8, None, byref(found)) == BAD_MODEL
    first = lib.binseg_error(found)
    assert first
    assert segment(found, 4, 4, 12) == BAD_ARGUMENT
    assert lib.binseg_set_threads(found, 2) == BAD_ARGUMENT
    assert lib.binseg_classes(found) == 0
    assert lib.binseg_isa(found) == b""
    assert lib.binseg_operator_count(found) == 0
    lib.binseg_close(found)


def test_errors_do_not_stick(handle):
    assert segment(handle, 4, 4, 11) == BAD_ARGUMENT
    assert segment(handle, 4, 4, 12) == OK
    assert library().binseg_error(handle) == b""


def test_numbers_of_threads():
    network = Network(small_file())
    for count in (0, -1, 257, 2**31 - 1):
        with pytest.raises(ValueError, match="threads"):
            network.threads = count
    network.threads = 256
    assert network.threads == 256
    assert network.segment(np.zeros((9, 9, 3), np.uint8)).shape == (9, 9)


def test_unknown_instruction_sets_are_named(monkeypatch):
    with pytest.raises(ValueError, match=r"sse9.*portable"):
        Network(small_file(), isa="sse9")
    monkeypatch.setenv("BINSEG_ISA", "portable")
    assert Network(small_file()).isa == "portable"
    assert Network(small_file(), isa=isas()[0]).isa == isas()[0]


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (300, 1), (2, 2)])
def test_images_of_a_pixel_or_a_line(size):
    image = np.full((*size, 3), 200, np.uint8)
    assert Network(small_file()).segment(image).shape == size
    few = image[:2, :2]
    assert Network(small_file(short_side=40)).segment(few).shape == few.shape[:2]


def test_an_image_that_is_too_small_for_the_network():
    network = Network(small_file(pads=(0, 0, 0, 0)))
    with pytest.raises(ImageError, match="too small"):
        network.segment(np.zeros((2, 5, 3), np.uint8))
    assert network.segment(np.zeros((3, 3, 3), np.uint8)).shape == (3, 3)  # and it goes on


def test_a_large_image():
    image = np.zeros((8000, 8000, 3), np.uint8)
    classes = Network(small_file(short_side=64)).segment(image)
    assert classes.shape == (8000, 8000)
    # a line that would be 65,536 pixels long after resizing
    with pytest.raises(ImageError, match="long and thin"):
        Network(small_file(short_side=64)).segment(np.zeros((1, 1024, 3), np.uint8))


def test_more_memory_than_the_machine_has():
    """64 bases' worth of channels at full size: refused before anything is asked for."""
    builder = ProgramBuilder()
    ones = builder.tensor("ones", np.ones(3, np.float32))
    (x,) = builder.add("normalize", [0], ["real"], tensors={"scale": ones, "shift": ones})
    weight = builder.tensor("weight", np.ones((8192, 1, 1, 3), np.float32))
    shape = {"stride": [1, 1], "pads": [0, 0, 0, 0]}
    (wide,) = builder.add("conv", [x], ["real"], tensors={"weight": weight}, kernel=[1, 1], **shape)
    last = builder.tensor("last", np.ones((2, 1, 1, 8192), np.float32))
    (y,) = builder.add("conv", [wide], ["real"], tensors={"weight": last}, kernel=[1, 1], **shape)
    network = Network(model_file(builder.build(y)))
    with pytest.raises(ImageError, match="MiB"):
        network.segment(np.zeros((8000, 8000, 3), np.uint8))
    assert network.segment(np.zeros((2, 2, 3), np.uint8)).shape == (2, 2)


def test_images_of_any_layout_in_memory():
    network, (height, width) = Network(small_file()), (13, 21)
    big = np.random.default_rng(2).integers(0, 256, (height + 4, width + 6, 3), dtype=np.uint8)
    inner = big[2 : 2 + height, 3 : 3 + width]
    expected = network.segment(np.ascontiguousarray(inner))
    for image in (inner, np.asfortranarray(inner), inner[::-1][::-1], inner.transpose(1, 0, 2)):
        found = network.segment(image)
        wanted = expected if image.shape == inner.shape else network.segment(image.copy())
        np.testing.assert_array_equal(found, wanted)
    flipped = big[:, :, ::-1][2 : 2 + height, 3 : 3 + width]
    np.testing.assert_array_equal(network.segment(flipped), network.segment(flipped.copy()))


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((4, 4), np.uint8),
        np.zeros((4, 4, 4), np.uint8),
        np.zeros((4, 4, 3), np.float32),
        np.zeros((0, 4, 3), np.uint8),
    ],
)
def test_arrays_that_are_no_images(image):
    with pytest.raises(ValueError, match=r"expected uint8|empty"):
        Network(small_file()).segment(image)


def test_what_a_network_says_about_itself():
    network = Network(small_file(short_side=270))
    assert network.classes == 2
    assert network.preparation.short_side == 270
    assert network.preparation.mean == (0.485, 0.456, 0.406)
    assert Network(small_file()).preparation.short_side is None
    assert network.input_size(360, 480) == (270, 360)


def test_the_model_file_is_not_needed_after_opening():
    file = bytearray(small_file())
    buffer = (ctypes.c_char * len(file)).from_buffer(file)
    found = c_void_p()
    lib = library()
    assert lib.binseg_open(bytes(buffer), len(file), None, byref(found)) == OK
    file[:] = b"\xff" * len(file)
    assert segment(found, 4, 4, 12) == OK
    lib.binseg_close(found)


def test_an_empty_file_is_refused():
    for file in (b"", b"\0" * 7, b"\0" * 8, b"\xff" * 64):
        with pytest.raises(ModelError):
            Network(file)
