"""The page's explanation has the figures, the weights and the signs of the very model."""

import re

import numpy as np
import pytest
import torch
from demo_models import CLASSES, write_tiny
from trained_networks import trained

from binseg.compiler.pack import pack
from binseg.data.labels import get_label_table
from binseg.data.preprocess import Preprocessing, network_input
from binseg.data.scenes import draw_scene
from binseg.demo.explain import COLUMNS, explain
from binseg.demo.models import ModelList
from binseg.demo.signs import first_signs, signs_html
from binseg.loaded import save
from binseg.nn.layers import BinaryConv2d
from binseg.summarize import summary
from binseg.summarize.tables import count

IMAGE = draw_scene(0, 0, (48, 64)).image


def test_the_text_and_the_table(tmp_path):
    models = ModelList([write_tiny(tmp_path, twin=False)])
    found = explain(models, "tiny", IMAGE)
    whole = summary(models.load("tiny").model)
    assert f"{count(whole.total.binary_parameters)} weights of **one bit**" in found.text
    assert f"{models.bytes('tiny') / 1e6:.2f} MB" in found.text
    for word in ("XNOR", "population count", "Group-Net", "BPAC"):
        assert word in found.text
    assert len(found.rows) == len(whole.layers) + 1
    assert all(len(row) == len(COLUMNS) for row in found.rows)
    assert found.rows[-1][0] == "total"
    assert found.rows[-1][3] == count(whole.total.binary_parameters)
    assert str(tmp_path) not in found.text + found.signs


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
    other, full = (explain(models, key, IMAGE) for key in networks)
    assert "Group-Net" not in other.text
    assert other.signs
    assert "full-precision" in full.text
    assert full.signs == ""


@pytest.mark.parametrize("size", [(48, 64), (49, 67)])
def test_the_signs_are_the_trained_networks_on_this_image(tmp_path, size):
    image = draw_scene(0, 0, size).image
    network = trained(num_classes=CLASSES, atrous="bpac", output_stride=8)
    layer = next(m for m in network.modules() if isinstance(m, BinaryConv2d) and m.kernel_size == 3)
    seen: list[tuple[torch.Tensor, torch.Tensor]] = []
    layer.register_forward_hook(lambda _, inputs, output: seen.append((inputs[0], output)))
    with torch.inference_mode():
        network.eval()(network_input(image, Preprocessing()))
    path = tmp_path / "packed.safetensors"
    save(path, pack(network), get_label_table("scenes"), Preprocessing())
    found = first_signs(path, image)
    assert found is not None
    weights = (layer.latent_weight.detach() >= 0).numpy()
    np.testing.assert_array_equal(found.kernels[: len(weights)], weights)
    # the layer's own sum of its first kernel at the place, of the signs that it got
    signs = torch.where(seen[0][0] >= 0, 1.0, -1.0)
    kernel = torch.from_numpy(np.where(weights[:1], 1.0, -1.0)).float()
    padded = torch.nn.functional.pad(signs[:, : kernel.shape[1]], (1, 1, 1, 1), value=1.0)
    sums = torch.nn.functional.conv2d(padded, kernel)
    assert found.sum == sums[0, 0, found.place[0], found.place[1]]
    assert found.places == seen[0][1].shape[-2] * seen[0][1].shape[-1]
    html = signs_html(found)
    total = found.window.size
    said = f"{found.equal} of {total} are equal: 2 · {found.equal} − {total} = "
    assert said + f"<b>{found.sum:+d}</b>".replace("-", "−") in html
    assert len(re.findall('class="map"', html)) == min(12, found.maps.shape[2])
