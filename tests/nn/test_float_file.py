"""Model files: what goes in comes out, and nothing else is taken for one."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from binseg.data.labels import get_label_table
from binseg.data.preprocess import Preprocessing
from binseg.errors import BinsegError
from binseg.loaded import load, read_header, save
from binseg.nn.float_file import write_tensors
from binseg.nn.segmenter import create_model


@pytest.fixture
def model():
    torch.manual_seed(0)
    return create_model("groupnet18", num_classes=11, bases=2, width=8).eval()


@pytest.fixture
def path(tmp_path, model):
    path = tmp_path / "model.safetensors"
    save(path, model, get_label_table("camvid"), Preprocessing(short_side=90), training={"a": 1})
    return path


def rewrite(path, change):
    """Write the file again with a changed header or tensors, and a checksum that fits."""
    tensors, header = load_file(path), read_header(path)
    change(tensors, header)
    write_tensors(path, header, tensors)


def test_round_trip(path, model):
    loaded = load(path)
    x = torch.randn(1, 3, 33, 41)
    assert torch.equal(loaded.model(x), model(x))
    assert not loaded.model.training
    assert loaded.labels == get_label_table("camvid")
    assert loaded.preprocessing == Preprocessing(short_side=90)
    assert loaded.header["training"] == {"a": 1}


def test_a_channels_last_network_is_saved_whole(tmp_path, model):
    path = tmp_path / "model.safetensors"
    x = torch.randn(1, 3, 33, 41)
    expected = model(x)
    save(
        path,
        model.to(memory_format=torch.channels_last),
        get_label_table("camvid"),
        Preprocessing(),
    )
    assert torch.equal(load(path).model(x), expected)


def test_bfloat16_halves_the_file_and_keeps_signs(path, model, tmp_path):
    half = tmp_path / "half.safetensors"
    save(half, model, get_label_table("camvid"), Preprocessing(), dtype=torch.bfloat16)
    assert half.stat().st_size < 0.6 * path.stat().st_size
    loaded = dict(load(half).model.named_parameters())
    for name, parameter in model.named_parameters():
        assert loaded[name].dtype == torch.float32
        torch.testing.assert_close(loaded[name], parameter, rtol=2**-8, atol=0)


def truncate(path):
    path.write_bytes(path.read_bytes()[:-100])


def cut_header(path):
    path.write_bytes(path.read_bytes()[:20])


def make_foreign(path):
    save_file({"a": torch.zeros(1)}, path)


def make_newer(path):
    header = {**read_header(path), "format": 99}
    save_file(load_file(path), path, metadata={"binseg": json.dumps(header)})


def damage_architecture(path):
    rewrite(path, lambda tensors, header: header.pop("architecture"))


def make_unknown_model(path):
    rewrite(path, lambda tensors, header: header["architecture"].update(name="groupnet19"))


def damage_labels(path):
    rewrite(path, lambda tensors, header: header["labels"].pop("names"))


def drop_a_tensor(path):
    rewrite(path, lambda tensors, header: tensors.pop("head.score.0.weight"))


def reshape_a_tensor(path):
    rewrite(path, lambda tensors, header: tensors.update({"head.score.0.weight": torch.zeros(2)}))


def be_a_pickle(path):
    torch.save({"a": 1}, path)


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (truncate, "truncated"),
        (cut_header, "truncated"),
        (be_a_pickle, "a checkpoint"),
        (make_foreign, "not one of binseg's"),
        (make_newer, "newer binseg"),
        (damage_architecture, "header is damaged"),
        (make_unknown_model, "did you mean 'groupnet18'"),
        (damage_labels, "names"),
        (drop_a_tensor, r"head\.score\.0\.weight is missing"),
        (reshape_a_tensor, r"head\.score\.0\.weight is \(2,\), not"),
    ],
)
def test_other_files_are_refused_in_one_line(path, harm, message):
    harm(path)
    with pytest.raises(BinsegError, match=message) as caught:
        load(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(BinsegError, match=r"nothing\.safetensors: there is no such"):
        load(tmp_path / "nothing.safetensors")


def test_labels_must_fit_the_network(tmp_path, model):
    with pytest.raises(BinsegError, match="11 classes"):
        save(tmp_path / "m.safetensors", model, get_label_table("scenes"), Preprocessing())
