"""What a result says: class maps, times, bytes, shares, and the comparison with fp32."""

from dataclasses import replace

import numpy as np
import pytest
from demo_models import write_tiny

from binseg.data.scenes import draw_scene
from binseg.demo import twins
from binseg.demo.drawing import comparison_json
from binseg.demo.inference import segment_image
from binseg.demo.models import ModelList
from binseg.demo.twins import Twins
from binseg.errors import BinsegError
from binseg.nn.segmenter import create_model
from binseg.predictor import Predictor
from binseg.program.executor import REFERENCE

IMAGE = draw_scene(0, 0, (45, 61)).image


@pytest.fixture
def models(tmp_path) -> ModelList:
    return ModelList([write_tiny(tmp_path), write_tiny(tmp_path, name="alone", twin=False)])


@pytest.fixture
def compared(models):
    """A function that segments an image and compares."""
    twins = Twins(models)
    return lambda key="tiny": twins.compare(segment_image(models, key, REFERENCE, IMAGE))


def test_a_result(models):
    found = segment_image(models, "tiny", REFERENCE, IMAGE)
    choice = models.get("tiny")
    expected = Predictor(choice.path, device="cpu")(IMAGE).class_map
    assert np.array_equal(found.class_map, expected)
    assert np.array_equal(found.image, IMAGE)
    assert (found.key, found.backend, found.threads) == ("tiny", REFERENCE, 1)
    assert found.model_bytes == choice.path.stat().st_size


def test_the_comparison(models, compared):
    found = compared()
    twin = Predictor(models.get("tiny").twin, device="cpu")(IMAGE).class_map
    assert (found.class_map == twin).mean() > 0.999
    assert found.times_faster > 0
    assert found.note.startswith("measured here at 61 x 45: ")
    figures = comparison_json(segment_image(models, "tiny", REFERENCE, IMAGE), found)
    assert figures["times_smaller"] == found.fp32_bytes / models.bytes("tiny")
    assert 0 < figures["agreement"] < 1


def test_fp32_bytes_are_four_for_every_number_of_the_twin(models, compared):
    architecture = models.load("tiny").model.architecture
    twin = create_model(**{**architecture, "precision": "full"})
    numbers = sum(
        tensor.numel() for tensor in twin.state_dict().values() if tensor.is_floating_point()
    )
    assert compared().fp32_bytes == 4 * numbers


def test_the_ratio_needs_no_twin_file(compared):
    found = compared("alone")
    assert found.times_faster is not None
    assert found.class_map is None


def test_shares(models):
    found = segment_image(models, "tiny", REFERENCE, IMAGE)
    assert {each.id for each in found.shares} == set(range(found.labels.num_classes))
    assert sum(each.share for each in found.shares) == pytest.approx(1)
    order = [(-each.share, each.id) for each in found.shares]
    assert order == sorted(order)
    for each in found.shares:
        assert each.name == found.labels.names[each.id]
        assert each.share == pytest.approx((found.class_map == each.id).mean())
        assert tuple(bytes.fromhex(each.color[1:])) == found.labels.palette[each.id]


@pytest.fixture
def timed(models, monkeypatch):
    """Ratio and note on a machine whose times and clock are given: of the model and its twin."""
    given: list[float] = []
    clock = [1000.0]
    monkeypatch.setattr(twins, "_seconds", lambda runner, image: given.pop(0))
    monkeypatch.setattr(twins, "_now", lambda: clock[0])
    measured = Twins(models)
    found = segment_image(models, "tiny", REFERENCE, IMAGE)

    def measure(*rounds: tuple[float, float], seconds: float = 1.0, later: float = 0.0):
        given[:] = [value for each in rounds for value in each]
        clock[0] += later
        result = measured.compare(replace(found, milliseconds={"network": 1e3 * seconds}))
        assert given == [], "a round more or less than expected"
        assert f": {result.milliseconds:.1f} ms" in result.note
        return result.times_faster, result.note

    return measure


def test_the_ratio_is_the_minimum_of_rounds_at_different_times(timed):
    ratio, note = timed((0.176, 0.030))  # a busy moment
    assert ratio == pytest.approx(0.030 / 0.176)
    ratio, note = timed((0.018, 0.090))
    assert ratio == pytest.approx(0.030 / 0.018)
    assert note == "measured here at 61 x 45: 18.0 ms, its full-precision twin in fp32 30.0 ms"
    timed((0.010, 0.030))
    assert timed()[0] == pytest.approx(3)


def test_what_a_request_shows_to_be_wrong_is_measured_anew(timed):
    for _ in range(3):
        timed((0.176, 0.400), seconds=0.170)
    timed(seconds=0.150)
    ratio, _ = timed((0.018, 0.045), seconds=0.020)
    assert ratio == pytest.approx(2.5)


def test_rounds_of_long_ago_do_not_count(timed):
    for _ in range(3):
        timed((0.010, 0.030))
    for _ in range(4):  # the machine became slower for good
        timed((0.020, 0.070), later=61)
    assert timed()[0] == pytest.approx(3)
    assert timed((0.020, 0.070), later=61)[0] == pytest.approx(3.5)


def test_a_network_without_a_twin_says_why(models, monkeypatch):
    def refuse(model):
        raise BinsegError("no precision")

    monkeypatch.setattr(twins, "_full_precision", refuse)
    found = Twins(models).compare(segment_image(models, "alone", REFERENCE, IMAGE))
    assert found.times_faster is None
    assert found.note == "not measured: the network has no full-precision twin"
    assert found.fp32_bytes > models.bytes("alone")


def test_faults_have_no_path(models):
    for key, backend in (("gone", REFERENCE), ("tiny", "abacus")):
        with pytest.raises(BinsegError) as caught:
            segment_image(models, key, backend, IMAGE)
        assert "/" not in str(caught.value)
