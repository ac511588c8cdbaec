"""Predictor and evaluation take packed networks like any other."""

import numpy as np
import pytest
import torch
from test_packed_file import LABELS
from trained_networks import trained

from binseg.compiler.pack import pack
from binseg.data.datasets import ScenesDataset
from binseg.data.labels import get_label_table
from binseg.data.preprocess import Preprocessing
from binseg.errors import BinsegError
from binseg.evaluation.protocols import Protocol, segment
from binseg.loaded import LoadedModel, save
from binseg.nn.segmenter import Segmenter
from binseg.predictor import Predictor, evaluate

PLAIN = Preprocessing()
SCENE = ScenesDataset("val", 1, (45, 61))[0].image


@pytest.fixture
def both(tmp_path):
    model = trained(bases=2, head="fcn8s")
    path = tmp_path / "packed.safetensors"
    save(path, pack(model), LABELS, PLAIN)
    return LoadedModel(model, LABELS, PLAIN), path


@pytest.mark.parametrize(
    "protocol",
    [Protocol(), Protocol("sliding", window=32, stride=20), Protocol("multi_scale", scales=(1.0,))],
    ids=str,
)
def test_same_class_maps_as_the_trained_network(both, protocol):
    trained_one, path = both
    expected = Predictor(trained_one, device="cpu", protocol=protocol)(SCENE).class_map
    found = Predictor(path, device="cpu", protocol=protocol)(SCENE).class_map
    assert found.dtype == np.uint8
    assert len(np.unique(expected)) > 1
    assert (found == expected).mean() > 0.999


def test_bf16_autocast(both):
    found = Predictor(both[1], device="cpu", protocol=Protocol(precision="bf16"))(SCENE)
    assert found.class_map.shape == SCENE.shape[:2]


@pytest.mark.parametrize(
    ("preprocessing", "size"),
    [(PLAIN, None), (Preprocessing(short_side=45), None), (PLAIN, (90, 122)),
     (Preprocessing(short_side=32), None), (Preprocessing(short_side=32), (32, 43))],
)  # fmt: skip
def test_scores_on_the_networks_grid_are_upsampled_as_logits_are(preprocessing, size):
    network = pack(trained(bases=2))
    found = segment(network, SCENE, preprocessing, size=size)
    plain = segment(lambda x: network(x), SCENE, preprocessing, size=size)
    assert found.shape == plain.shape
    assert (found == plain).mean() > 0.999


@pytest.mark.parametrize("size", [None, (90, 122)])
def test_nan_is_an_error_on_both_paths(size):
    model = trained(bases=2)
    packed = pack(model)
    # what no check of a file sees: a product of finite numbers
    packed.executor.scores = lambda image: np.full((6, 8, 5), np.nan, np.float32)
    with pytest.raises(BinsegError, match="output holds nan"):
        segment(packed, SCENE, PLAIN, size=size)


def test_evaluation(tmp_path):
    model = trained(num_classes=8)
    labels = get_label_table("scenes")
    save(tmp_path / "packed.safetensors", pack(model), labels, PLAIN)
    scenes = ScenesDataset("val", 3, (40, 56))
    expected = evaluate(LoadedModel(model, labels, PLAIN), scenes, boundary_distance=None)
    found = evaluate(tmp_path / "packed.safetensors", scenes, boundary_distance=None)
    assert found.scores.mean_iou == pytest.approx(expected.scores.mean_iou, abs=1e-3)
    assert found.about["model"]["kind"] == "packed"


def test_the_default_class_map_takes_the_first_of_equals():
    class Ties(Segmenter):
        def forward(self, x):
            return torch.stack([x[:, 0] * 0, x[:, 0], x[:, 0]], dim=1)

    x = torch.tensor([-1.0, 0.0, 2.0]).view(1, 1, 1, 3).expand(2, 3, 1, 3)
    found = Ties({"num_classes": 3}).class_map(x)
    assert found.dtype == torch.uint8
    assert found.tolist() == [[[0, 0, 1]]] * 2
