"""The demo's one public function, and what it refuses."""

import json
import re
from pathlib import Path

import gradio_client
import numpy as np
import pytest
from gradio_client import handle_file
from gradio_client.exceptions import AppError, ValidationError

from binseg.data.imageio import read_image, read_mask, write_image
from binseg.data.scenes import draw_scene
from binseg.predictor import Predictor


@pytest.fixture(scope="module")
def client(demo, tmp_path_factory) -> gradio_client.Client:
    folder = tmp_path_factory.mktemp("answers")
    return gradio_client.Client(
        demo.address, verbose=False, download_files=folder, analytics_enabled=False
    )


@pytest.fixture
def street(tmp_path) -> Path:
    path = tmp_path / "street.png"
    write_image(path, draw_scene(5, 2, (61, 83)).image)
    return path


def test_segment_gives_the_class_ids_the_overlay_and_the_figures(client, street, demo):
    ids, overlay, figures = client.predict(
        image=handle_file(street), model="alone", backend="reference", api_name="/segment"
    )
    found = Predictor(demo.alone, device="cpu")(street)
    np.testing.assert_array_equal(read_mask(ids), found.class_map)
    # a JPEG of the same colours
    assert np.abs(read_image(overlay).astype(int) - found.overlay(0.6)).mean() < 4
    assert (figures["model"], figures["backend"]) == ("alone", "reference")
    assert figures["image"] == figures["picture"] == {"width": 83, "height": 61}
    shares = {each["name"]: each["share"] for each in figures["classes"]}
    assert shares == pytest.approx(found.shares())
    assert str(demo.alone.parent) not in json.dumps(figures)


def test_model_and_backend_have_defaults(client, street):
    *_, figures = client.predict(image=handle_file(street), api_name="/segment")
    assert figures["model"] == "tiny"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"model": "/etc/passwd"}, "tiny"),
        ({"model": "tiny.safetensors"}, "tiny"),
        ({"backend": "abacus"}, "reference"),
        ({"image": None}, r"send an image: .*handle_file"),
        # what handle_file would have uploaded
        ({"image": "street.png"}, r"send an image: .*handle_file"),
        ({"image": handle_file("https://example.org/street.png")}, "send an image"),
    ],
)
def test_a_wrong_input_is_told_in_our_words(client, street, demo, change, words):
    inputs = {"image": handle_file(street), "model": "tiny", "backend": "reference"}
    with pytest.raises(ValidationError, match=words) as caught:
        client.predict(**{**inputs, **change}, api_name="/segment")
    assert str(demo.tiny.parent) not in str(caught.value)


def test_a_file_that_is_no_image_is_named(client, tmp_path):
    path = tmp_path / "drawing.svg"
    path.write_text("<svg xmlns='http://www.w3.org/2000/svg'/>")
    with pytest.raises(AppError, match=r"drawing\.svg: not an image") as caught:
        client.predict(image=handle_file(path), api_name="/segment")
    assert str(tmp_path) not in str(caught.value)


def test_the_example_of_the_page_runs(demo, tmp_path, monkeypatch, capsys):
    page = (Path(__file__).parents[2] / "docs/how-to/serve.md").read_text()
    blocks = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    (example,) = (block for block in blocks if "gradio_client" in block)
    monkeypatch.chdir(tmp_path)
    write_image("street.jpg", draw_scene(5, 2, (61, 83)).image)
    example = example.replace("http://127.0.0.1:7860", demo.address)
    exec(example.replace("street-base", "tiny"), {})
    assert "share" in capsys.readouterr().out
