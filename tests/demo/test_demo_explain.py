"""The page's explanation has the figures and the weights of the very model."""

from xml.etree import ElementTree

import numpy as np
import pytest
from demo_models import CLASSES, write_tiny
from trained_networks import trained

from binseg.compiler.pack import pack
from binseg.data.labels import get_label_table
from binseg.data.preprocess import Preprocessing
from binseg.demo.explain import COLUMNS, explain, first_signs
from binseg.demo.models import ModelList
from binseg.demo.weights_picture import weights_picture
from binseg.loaded import save
from binseg.nn.layers import BinaryConv2d
from binseg.summarize import summary
from binseg.summarize.tables import count


def test_the_text_and_the_table(tmp_path):
    models = ModelList([write_tiny(tmp_path, twin=False)])
    found = explain(models, "tiny")
    whole = summary(models.load("tiny").model)
    assert f"{count(whole.total.binary_parameters)} weights of **one bit**" in found.text
    assert f"{models.get('tiny').bytes / 1e6:.2f} MB" in found.text
    for word in ("XNOR", "population count", "Group-Net", "BPAC"):
        assert word in found.text
    assert len(found.rows) == len(whole.layers) + 1
    assert all(len(row) == len(COLUMNS) for row in found.rows)
    assert found.rows[-1][0] == "total"
    assert found.rows[-1][3] == count(whole.total.binary_parameters)
    assert str(tmp_path) not in found.text + found.picture


def test_networks_of_other_families_and_of_full_precision(tmp_path):
    networks = {
        "other": trained(name="resnete18", num_classes=CLASSES),
        "full": trained(num_classes=CLASSES, precision="full"),
    }
    paths = []
    for name, network in networks.items():
        paths.append(tmp_path / f"{name}.safetensors")
        save(paths[-1], network, get_label_table("scenes"), Preprocessing())
    models = ModelList(paths)
    other, full = explain(models, "other"), explain(models, "full")
    assert "Group-Net" not in other.text
    assert other.picture
    assert "full-precision" in full.text
    assert full.picture == ""


def test_the_signs_are_the_trained_networks():
    network = trained(num_classes=CLASSES)
    layer = next(m for m in network.modules() if isinstance(m, BinaryConv2d) and m.kernel_size == 3)
    expected = (layer.latent_weight.detach() >= 0).numpy()
    for model in (network, pack(network)):
        found = first_signs(model)
        assert found is not None
        assert np.array_equal(found[1], expected)


@pytest.mark.parametrize("channels", [(1, 1), (5, 3), (64, 64)])
def test_the_picture_shows_them(channels):
    signs = np.random.default_rng(0).random((*channels, 3, 3)) < 0.5
    picture = weights_picture("body.conv", signs)
    root = ElementTree.fromstring(picture)
    cells = [each for each in root if each.tag.endswith("rect") and each.get("fill") != "none"]
    shown = min(32, channels[0] * channels[1])
    found = [each.get("fill") == "#fff" for each in cells[: 9 * shown]]
    assert found == signs.reshape(-1)[: 9 * shown].tolist()
    assert f"{shown} of {channels[0] * channels[1]:,} kernels of body.conv" in picture
    # the worked example: XNOR of the first kernel and the map beside it
    weights, given, equal = (
        np.array([each.get("fill") == "#fff" for each in cells[start : start + 9]])
        for start in range(9 * shown, 9 * shown + 27, 9)
    )
    assert np.array_equal(weights, signs[0, 0].ravel())
    assert np.array_equal(equal, weights == given)
    total = int(np.dot(2 * weights.astype(int) - 1, 2 * given.astype(int) - 1))
    assert f"2·{equal.sum()} − 9 = {total:+d}".replace("-", "−") in picture
