"""Image in, segmentation out, at odd sizes and from every kind of input."""

import io
import json
import warnings

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from binseg.data.datasets import ScenesDataset
from binseg.data.imageio import read_image, read_mask, write_image
from binseg.data.labels import get_label_table
from binseg.data.preprocess import Preprocessing
from binseg.data.samples import Sample
from binseg.errors import BinsegError
from binseg.evaluation.protocols import Protocol
from binseg.evaluation.tally import Tally
from binseg.loaded import LoadedModel, save
from binseg.nn.segmenter import create_model
from binseg.predictor import Predictor, choose_device, evaluate

SCENES = get_label_table("scenes")
PLAIN = Preprocessing(mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))


class LeftRight(nn.Module):
    """Class 1 in the brighter half of the range, else class 0."""

    def forward(self, x: Tensor) -> Tensor:
        logits = torch.full((x.shape[0], 8, *x.shape[2:]), -1.0, device=x.device)
        logits[:, :2] = torch.cat([0.5 - x[:, :1], x[:, :1] - 0.5], dim=1)
        return logits


@pytest.fixture
def predictor() -> Predictor:
    return Predictor(LeftRight(), labels=SCENES, preprocessing=PLAIN, device="cpu")


def halves(height: int, width: int) -> np.ndarray:
    image = np.zeros((height, width, 3), dtype=np.uint8)
    image[:, width // 2 :] = 255
    return image


@pytest.mark.parametrize("shape", [(1, 1), (3, 200), (200, 3), (37, 53), (480, 640)])
def test_any_size(predictor, shape):
    found = predictor(halves(*shape))
    assert found.class_map.dtype == np.uint8
    assert np.array_equal(found.class_map, halves(*shape)[:, :, 0] // 255)
    assert found.overlay().shape == (*shape, 3)
    assert found.overlay(legend=True).size > found.image.size
    assert found.seconds > 0


def test_seconds_are_without_the_kernels_compilation(monkeypatch):
    clock = [0.0]

    class Compiled(LeftRight):
        def make_ready(self, device: torch.device) -> None:
            clock[0] += 1000

    predictor = Predictor(Compiled(), labels=SCENES, preprocessing=PLAIN, device="cpu")

    def tick() -> float:
        clock[0] += 1
        return clock[0]

    monkeypatch.setattr("time.perf_counter", tick)
    assert predictor(halves(8, 8)).seconds == 1
    dataset = ScenesDataset("val", 1, (32, 48))
    assert 0 < evaluate(predictor, dataset).seconds < 1000
    assert clock[0] > 2000


@pytest.mark.parametrize("short_side", [16, 64])
def test_class_map_has_the_images_size_not_the_networks(short_side):
    preprocessing = Preprocessing((0.0,) * 3, (1.0,) * 3, short_side)
    predictor = Predictor(LeftRight(), labels=SCENES, preprocessing=preprocessing, device="cpu")
    found = predictor(halves(33, 50))
    assert found.class_map.shape == (33, 50)
    assert (found.class_map[:, :22] == 0).all()
    assert (found.class_map[:, 28:] == 1).all()


def test_every_kind_of_input(predictor, tmp_path):
    image = halves(12, 18)
    path = tmp_path / "x.png"
    write_image(path, image)
    transparent = np.zeros((12, 18, 4), np.uint8)  # fully transparent black is white paper
    expected = predictor(image).class_map
    content = path.read_bytes()
    with path.open("rb") as file:
        inputs = (
            *(path, str(path), Image.fromarray(image), Image.fromarray(image).convert("P")),
            *(content, bytearray(content), memoryview(content), io.BytesIO(content), file),
        )
        for given in inputs:
            assert np.array_equal(predictor(given).class_map, expected)
    several = predictor([path, content, image])
    assert [np.array_equal(found.class_map, expected) for found in several] == [True] * 3
    assert predictor(()) == []
    assert (predictor(Image.fromarray(transparent)).class_map == 1).all()
    with pytest.raises(BinsegError, match="mode F"):
        predictor(Image.fromarray(np.zeros((4, 4), np.float32)))
    with pytest.raises(BinsegError, match="no such file"):
        predictor(tmp_path / "missing.jpg")


@pytest.mark.parametrize("array", ["read only", "mirrored", "a part"])
def test_any_memory_will_do_and_torch_has_nothing_to_warn_of(predictor, array):
    image = halves(12, 18)
    expected = predictor(image).class_map
    if array == "read only":
        image = np.asarray(Image.fromarray(image))
        assert not image.flags.writeable
    elif array == "mirrored":
        image, expected = image[:, ::-1], expected[:, ::-1]
    else:
        image, expected = image[::2, ::3], expected[::2, ::3]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert np.array_equal(predictor(image).class_map, expected)


def test_labels_and_predictions_may_be_read_only(tmp_path):
    ids = np.zeros((4, 6), np.uint8)
    ids.flags.writeable = False
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        tally = Tally(SCENES, None, 0)
        tally.add(0, Sample(np.zeros((4, 6, 3), np.uint8), ids, "a"), ids, None)
    assert tally.evaluation(0.0, {}).scores.pixel_accuracy == 1.0


def test_what_is_no_image_is_told_in_one_sentence(predictor, tmp_path):
    for content, message in (
        (b"GIF89a", r"the bytes given: .*\(GIF\)"),
        (b"", "given: empty file"),
    ):
        with pytest.raises(BinsegError, match=message):
            predictor(content)
    path = tmp_path / "x.txt"
    path.write_text("no image")
    with path.open("rb") as file, pytest.raises(BinsegError, match=r"x\.txt: not an image"):
        predictor(file)
    with path.open() as file, pytest.raises(TypeError, match="opened in binary mode"):
        predictor(file)
    for given in (None, 7, [[0, 1], [2, 3]], {"image": 1}, torch.zeros(3, 4, 4)):
        with pytest.raises(TypeError, match=r"an image is a file's path, its content .* not "):
            predictor(given)
    with pytest.raises(ValueError, match="HWC uint8 RGB"):
        predictor(np.zeros((4, 4, 3), np.float32))


def test_pil_images_are_turned_as_their_exif_says(predictor, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    path = tmp_path / "turned.png"
    Image.fromarray(halves(10, 20)).save(path, exif=exif)
    with Image.open(path) as opened:
        from_pil = predictor(opened)
    assert from_pil.class_map.shape == (20, 10)
    assert np.array_equal(from_pil.class_map, predictor(path).class_map)


def test_shares_add_up(predictor):
    shares = predictor(halves(10, 20)).shares()
    assert list(shares) == list(SCENES.names)
    assert shares["sky"] == shares["road"] == 0.5
    assert sum(shares.values()) == 1.0


def test_save(predictor, tmp_path):
    found = predictor(halves(10, 20))
    files = found.save(tmp_path / "new" / "x.png")
    assert [file.name for file in files] == ["x.png", "x_overlay.jpg"]
    assert np.array_equal(read_mask(files[0]), found.class_map)
    assert read_image(files[1]).shape == found.overlay(legend=True).shape
    assert found.save(tmp_path / "y.png", with_overlay=False) == [tmp_path / "y.png"]
    assert {path.name for path in tmp_path.iterdir()} == {"new", "y.png"}


def test_a_network_of_more_classes_than_names():
    def network(x: Tensor) -> Tensor:
        return torch.arange(9.0).view(1, 9, 1, 1).expand(1, 9, *x.shape[2:])

    predictor = Predictor(network, labels=SCENES, preprocessing=PLAIN, device="cpu")
    with pytest.raises(BinsegError, match=r"class 8.*8 classes"):
        predictor(halves(4, 4))


def test_a_bare_network_needs_labels():
    with pytest.raises(TypeError, match="labels"):
        Predictor(LeftRight())


def test_devices():
    assert choose_device("cpu").type == "cpu"
    assert choose_device().type in ("cpu", "cuda")
    for name in ("gpu", "cuda:99"):
        with pytest.raises(BinsegError, match=f"device '{name}' cannot be used"):
            choose_device(name)


class TestModelFile:
    @pytest.fixture
    def path(self, tmp_path):
        torch.manual_seed(0)
        model = create_model("groupnet18", num_classes=8, bases=2, width=8).eval()
        path = tmp_path / "model.safetensors"
        save(path, model, SCENES, Preprocessing(short_side=32), training={"val_miou": 0.5})
        return path

    def test_evaluating_and_predicting_are_one_way(self, path):
        dataset = ScenesDataset("val", 2, (32, 48))
        predictor = Predictor(path, device="cpu")
        result = evaluate(predictor, dataset, worst=2)
        for kept in result.worst:
            found = predictor(dataset[kept.place].image)
            assert np.array_equal(kept.prediction, found.class_map)
        assert evaluate(path, dataset, device="cpu").scores == result.scores

    def test_report_says_what_was_scored_and_how(self, path):
        protocol = Protocol("sliding", window=24, stride=20)
        result = evaluate(path, ScenesDataset("val", 1, (32, 48)), protocol=protocol, device="cpu")
        plain = json.loads(json.dumps(result.to_dict(), allow_nan=False))
        assert plain["model"]["file"] == str(path)
        assert plain["model"]["training"] == {"val_miou": 0.5}
        assert plain["model"]["architecture"]["name"] == "groupnet18"
        assert plain["protocol"]["name"] == "sliding"
        assert plain["protocol"]["window"] == 24

    def test_other_classes(self, path):
        dataset = ScenesDataset("val", 1, (32, 48))
        dataset.labels = get_label_table("camvid")
        with pytest.raises(BinsegError, match="of other classes"):
            evaluate(path, dataset, device="cpu")

    def test_damaged_file(self, path):
        path.write_bytes(path.read_bytes()[:1000])
        with pytest.raises(BinsegError, match="truncated"):
            Predictor(path)

    def test_module_is_put_into_eval_mode(self):
        model = create_model("groupnet18", num_classes=8, bases=1, width=8).train()
        predictor = Predictor(LoadedModel(model, SCENES, PLAIN), device="cpu")
        assert not model.training
        image = halves(32, 32)
        first = predictor(image).class_map
        assert np.array_equal(predictor(image).class_map, first)
