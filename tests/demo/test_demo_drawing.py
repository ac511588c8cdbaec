"""What can be taken home of a result."""

import numpy as np
from demo_models import write_tiny

from binseg.data.imageio import read_image, read_mask
from binseg.data.scenes import draw_scene
from binseg.demo.drawing import write_downloads
from binseg.demo.inference import segment_image
from binseg.demo.models import ModelList
from binseg.program.executor import REFERENCE


def test_downloads(tmp_path):
    models = ModelList([write_tiny(tmp_path)])
    result = segment_image(models, "tiny", REFERENCE, draw_scene(0, 0, (45, 61)).image)
    ids, drawing = write_downloads(tmp_path, result, opacity=0.5, stem="street")
    assert [path.name for path in (ids, drawing)] == ["street_ids.png", "street_overlay.jpg"]
    assert np.array_equal(read_mask(ids), result.class_map)
    colors = np.array(result.labels.palette)[result.class_map]
    assert np.abs(read_image(drawing) - (0.5 * result.image + 0.5 * colors)).mean() < 3
