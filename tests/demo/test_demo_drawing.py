"""Overlays from a stored class map, and what can be taken home."""

import json

import numpy as np
import pytest
from demo_models import write_tiny

from binseg.data.imageio import read_image, read_mask
from binseg.data.labels import get_label_table
from binseg.data.scenes import draw_scene
from binseg.demo.drawing import draw, write_downloads
from binseg.demo.inference import segment_image
from binseg.demo.models import ModelList
from binseg.program.executor import REFERENCE

LABELS = get_label_table("scenes")


def image_and_classes(height: int = 37, width: int = 53) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(0)
    image = generator.integers(0, 256, (height, width, 3), dtype=np.uint8)
    return image, generator.integers(0, LABELS.num_classes, (height, width), dtype=np.uint8)


@pytest.mark.parametrize("shown", [set(range(8)), {0}, {2, 7}, set()])
@pytest.mark.parametrize("opacity", [0.0, 0.37, 1.0])
def test_colours_where_a_class_is_shown_and_the_image_elsewhere(shown, opacity):
    image, class_map = image_and_classes()
    drawn = draw(image, class_map, LABELS, opacity=opacity, shown=shown)
    assert drawn.dtype == np.uint8
    for (y, x), index in np.ndenumerate(class_map):
        color = np.array(LABELS.palette[index])
        blend = (1 - opacity) * image[y, x] + opacity * color
        expected = blend if int(index) in shown else image[y, x]
        assert np.abs(drawn[y, x] - expected).max() <= (0.5 + 1e-6 if int(index) in shown else 0)


def test_the_image_given_stays_as_it_is():
    image, class_map = image_and_classes()
    before = image.copy()
    draw(image, class_map, LABELS, opacity=0.5, shown={1})
    assert np.array_equal(image, before)


def test_bad_input():
    image, class_map = image_and_classes()
    with pytest.raises(ValueError, match="53 x 37"):
        draw(image, class_map[1:], LABELS, opacity=0.5, shown=set())
    with pytest.raises(ValueError, match="alpha"):
        draw(image, class_map, LABELS, opacity=1.5, shown=set())


def test_downloads(tmp_path):
    models = ModelList([write_tiny(tmp_path)])
    result = segment_image(
        models, "tiny", REFERENCE, draw_scene(0, 0, (45, 61)).image, with_twin=False
    )
    drawn = draw(result.image, result.class_map, result.labels, opacity=0.5, shown={0})
    ids, overlay, figures = write_downloads(tmp_path / "new", result, drawn, stem="street")
    assert [path.name for path in (ids, overlay, figures)] == [
        "street_ids.png",
        "street_overlay.jpg",
        "street_result.json",
    ]
    assert np.array_equal(read_mask(ids), result.class_map)
    assert np.abs(read_image(overlay).astype(int) - drawn).mean() < 3
    found = json.loads(figures.read_text())
    assert found["model"] == "tiny"
    assert found["image"] == {"width": 61, "height": 45}
    assert {each["name"]: each["share"] for each in found["classes"]} == {
        each.name: each.share for each in result.shares
    }
    assert found["milliseconds"] == result.milliseconds
    assert found["model_bytes"] == models.get("tiny").bytes
    assert found["versions"].keys() == {"binseg", "torch", "python"}
    assert str(tmp_path) not in figures.read_text()
