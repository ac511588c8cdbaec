"""Model files without torch: what goes in comes out, and what was changed is refused."""

import json
import zipfile

import numpy as np
import pytest
import safetensors.numpy
import safetensors.torch
import torch

from binseg.errors import BinsegError
from binseg.model_file import FORMAT_VERSION, read_header, read_model_file, write_model_file

HEADER = {"kind": "float", "training": {"miou": 0.5, "classes": [1, None]}, "card": 'a "crc32":"'}
TENSORS = {
    "weight": np.arange(6, dtype=np.float32).reshape(2, 3),
    "bits": np.arange(3, dtype=np.uint8),
    "half": np.array([[0x3F80, 0xC000]], np.uint16),  # 1 and −2
    "count": np.array(7),
    "nothing": np.zeros((0, 4), np.int16),
    "turned": np.arange(6, dtype=np.int32).reshape(2, 3).T,
    "mask": np.array([True, False]),
}


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "model.safetensors"
    write_model_file(path, HEADER, TENSORS, frozenset({"half"}))
    return path


def parts(path):
    content = path.read_bytes()
    length = int.from_bytes(content[:8], "little")
    return json.loads(content[8 : 8 + length]), content[8 + length :]


def rewrite(path, change):
    """Change the outer header, and write it without a new checksum."""
    header, data = parts(path)
    change(header)
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)


def rewrite_inner(path, change):
    """Change binseg's header, and take the checksum off."""

    def both(outer):
        inner = json.loads(outer["__metadata__"]["binseg"])
        changed = change(inner)
        outer["__metadata__"] = {
            "binseg": changed if isinstance(changed, str) else json.dumps(inner)
        }

    rewrite(path, both)


def test_round_trip(path):
    file = read_model_file(path)
    assert file.header == {"format": FORMAT_VERSION, **HEADER} == read_header(path)
    assert file.bfloat16 == {"half"}
    assert file.tensors.keys() == TENSORS.keys()
    for name, tensor in TENSORS.items():
        assert file.tensors[name].dtype == tensor.dtype
        assert file.tensors[name].shape == tensor.shape
        assert (file.tensors[name] == tensor).all()


def test_other_readers_see_the_same_tensors(path):
    tensors = safetensors.torch.load_file(path)
    assert tensors["half"].tolist() == [[1, -2]]
    assert tensors["half"].dtype == torch.bfloat16
    assert tensors["turned"].tolist() == TENSORS["turned"].tolist()


def test_the_checksum_is_that_of_the_document(path):
    content = path.read_bytes()
    digits = parts(path)[0]["__metadata__"]["crc32"].encode()
    assert content.count(digits) == 1
    zeroed = content.replace(digits, b"00000000")
    crc = 0xFFFFFFFF  # by the bit, from the polynomial
    for byte in zeroed:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0xEDB88320 if crc & 1 else 0)
    assert f"{crc ^ 0xFFFFFFFF:08x}".encode() == digits


def test_the_same_content_gives_the_same_bytes(path, tmp_path):
    for i in range(5):
        again = tmp_path / f"{i}.safetensors"
        tensors = dict(reversed(TENSORS.items()))
        write_model_file(again, HEADER, tensors, frozenset({"half"}))
        assert again.read_bytes() == path.read_bytes()


def test_figures_that_do_not_exist_become_null(tmp_path):
    path = tmp_path / "m.safetensors"
    figures = {"miou": float("nan"), "of": [np.float64("inf"), 1.5]}
    write_model_file(path, {"kind": "float", "training": figures}, {})
    assert read_header(path)["training"] == {"miou": None, "of": [None, 1.5]}


def test_any_flipped_byte_is_refused(tmp_path):
    path = tmp_path / "m.safetensors"
    for kind in ("packed", "float"):
        write_model_file(path, {"kind": kind}, {"a": np.arange(5, dtype=np.int8)})
        content = path.read_bytes()
        for at in range(len(content)):
            for flip in (0x01, 0x20, 0x80, 0xFF):
                harmed = bytearray(content)
                harmed[at] ^= flip
                path.write_bytes(harmed)
                with pytest.raises(BinsegError, match=r"m\.safetensors: ") as caught:
                    read_model_file(path)
                assert "\n" not in str(caught.value)
                with pytest.raises(BinsegError):
                    read_header(path)


def test_any_truncation_is_refused(tmp_path):
    path = tmp_path / "m.safetensors"
    write_model_file(path, {"kind": "float"}, {"a": np.arange(5, dtype=np.int8)})
    content = path.read_bytes()
    for length in range(len(content)):
        path.write_bytes(content[:length])
        with pytest.raises(BinsegError, match="truncated"):
            read_model_file(path)
    path.write_bytes(content + b"\0")
    with pytest.raises(BinsegError, match="not a readable"):
        read_model_file(path)


def test_a_file_of_the_first_format_needs_no_checksum(path):
    rewrite_inner(path, lambda inner: inner.update(format=1, training={"miou": float("nan")}))
    file = read_model_file(path)
    assert file.header["format"] == 1
    assert np.isnan(file.header["training"]["miou"])
    assert (file.tensors["weight"] == TENSORS["weight"]).all()


def test_but_one_that_is_there_must_fit(path):
    rewrite(path, lambda outer: outer["__metadata__"].update(crc32="12345678"))
    with pytest.raises(BinsegError, match="checksum"):
        read_model_file(path)


def a_key_twice(inner):
    return json.dumps(inner).replace("{", '{"kind": "float", ', 1)


def deep(inner):
    for _ in range(40):
        inner["card"] = [inner["card"]]


def very_deep(inner):
    return "[" * 100_000 + "]" * 100_000


def half_a_character(inner):
    inner["card"] = "\ud800"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda inner: inner.update(format=99), "newer binseg"),
        (lambda inner: inner.update(format=0), "header is damaged"),
        (lambda inner: inner.update(format="2"), "header is damaged"),
        (lambda inner: inner.update(format=True), "header is damaged"),
        (lambda inner: inner.pop("format"), "header is damaged"),
        (lambda inner: inner.pop("kind"), "header is damaged"),
        (lambda inner: inner.update(kind=["float"]), "header is damaged"),
        (lambda inner: inner.update(format=1, kind="new\nkind"), r"kind 'new\\nkind' are unknown"),
        (lambda inner: None, "checksum"),
        (lambda inner: inner.update(card=float("nan")), "NaN is no JSON"),
        (lambda inner: "[]", "header is damaged"),
        (lambda inner: "{", "header is damaged"),
        (a_key_twice, "twice"),
        (deep, "deeper than 32"),
        (very_deep, "header is damaged"),
        (half_a_character, "surrogates"),
    ],
)
def test_other_headers_are_refused_in_one_line(path, change, message):
    rewrite_inner(path, change)
    with pytest.raises(BinsegError, match=message) as caught:
        read_header(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_foreign_files_are_refused(tmp_path):
    path = tmp_path / "m.safetensors"
    safetensors.numpy.save_file({"a": np.zeros(1)}, path)
    with pytest.raises(BinsegError, match="not one of binseg's"):
        read_model_file(path)
    torch.save({"a": 1}, path)
    with pytest.raises(BinsegError, match="a checkpoint"):
        read_model_file(path)
    with pytest.raises(BinsegError, match="a folder"):
        read_model_file(tmp_path)
    with pytest.raises(BinsegError, match="no such model file"):
        read_model_file(tmp_path / "nothing.safetensors")


def test_a_checkpoint_is_called_one_and_the_network_is_named(tmp_path):
    checkpoint = tmp_path / "last.ckpt"
    with zipfile.ZipFile(checkpoint, "w") as archive:  # as torch.save writes
        archive.writestr("last/data.pkl", b"...")
    with pytest.raises(BinsegError, match=r"last\.ckpt: a checkpoint .*give a \.safetensors file"):
        read_model_file(checkpoint)
    (tmp_path / "best.safetensors").touch()
    with pytest.raises(BinsegError, match=r"the run's network is .*best\.safetensors"):
        read_header(checkpoint)


def test_dtypes_that_are_not_ours_are_named(path):
    write_model_file(path, {"kind": "float"}, {"a": np.zeros(2, np.uint32)})
    with pytest.raises(BinsegError, match="'a' is of dtype U32"):
        read_model_file(path)


@pytest.mark.parametrize("card", ["\ud800", json.loads("[" * 40 + "]" * 40)])
def test_what_could_not_be_read_is_not_written(tmp_path, card):
    path = tmp_path / "m.safetensors"
    with pytest.raises(BinsegError, match="cannot be written"):
        write_model_file(path, {"kind": "float", "card": card}, {})
    assert not path.exists()
