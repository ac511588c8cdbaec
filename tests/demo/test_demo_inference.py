"""What a result says: class maps, times, bytes, shares, and the comparison with fp32."""

import numpy as np
import pytest
from demo_models import write_tiny

from binseg.data.scenes import draw_scene
from binseg.demo import twins
from binseg.demo.inference import segment_image
from binseg.demo.models import ModelList
from binseg.errors import BinsegError
from binseg.nn.segmenter import create_model
from binseg.predictor import Predictor
from binseg.program.executor import REFERENCE

IMAGE = draw_scene(0, 0, (45, 61)).image


@pytest.fixture
def models(tmp_path) -> ModelList:
    return ModelList([write_tiny(tmp_path), write_tiny(tmp_path, name="alone", twin=False)])


def test_a_result(models):
    found = segment_image(models, "tiny", REFERENCE, IMAGE)
    choice = models.get("tiny")
    expected = Predictor(choice.path, device="cpu")(IMAGE).class_map
    assert np.array_equal(found.class_map, expected)
    assert np.array_equal(found.image, IMAGE)
    assert (found.key, found.backend) == ("tiny", REFERENCE)
    assert list(found.milliseconds) == ["pre-processing", "network", "upsampling"]
    assert all(value > 0 for value in found.milliseconds.values())
    assert found.model_bytes == choice.path.stat().st_size
    assert found.times_smaller == found.fp32_bytes / found.model_bytes
    assert found.times_faster is not None
    assert found.faster_note.startswith("measured here at 61 x 45: ")


def test_fp32_bytes_are_four_for_every_number_of_the_twin(models):
    found = segment_image(models, "tiny", REFERENCE, IMAGE)
    architecture = models.load("tiny").model.architecture
    twin = create_model(**{**architecture, "precision": "full"})
    numbers = sum(
        tensor.numel() for tensor in twin.state_dict().values() if tensor.is_floating_point()
    )
    assert found.fp32_bytes == 4 * numbers


def test_the_ratio_needs_no_twin_file(models):
    found = segment_image(models, "alone", REFERENCE, IMAGE)
    assert found.times_faster is not None


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
    """`times_faster` on a machine whose times and clock are given.

    A round takes three of them: the model, its twin in two memory formats.
    """
    given: list[float] = []
    clock = [1000.0]
    monkeypatch.setattr(twins, "_seconds", lambda run, wait: run() is not None and given.pop(0))
    monkeypatch.setattr(twins, "_now", lambda: clock[0])

    def measure(*rounds: tuple[float, float, float], seconds: float = 1.0, later: float = 0.0):
        given[:] = [value for each in rounds for value in each]
        clock[0] += later
        found = twins.times_faster(models, "tiny", REFERENCE, (33, 47), seconds)
        assert given == [], "a round more or less than expected"
        return found

    return measure


def test_the_ratio_is_the_minimum_of_rounds_at_different_times(timed):
    ratio, note = timed((0.176, 0.050, 0.030))  # a busy moment
    assert ratio == pytest.approx(0.030 / 0.176)
    ratio, note = timed((0.018, 0.200, 0.090))
    assert ratio == pytest.approx(0.030 / 0.018)
    assert note == "measured here at 47 x 33: 18.0 ms, its full-precision twin in fp32 30.0 ms"
    timed((0.010, 0.050, 0.030))
    assert timed()[0] == pytest.approx(3)


def test_what_a_request_shows_to_be_wrong_is_measured_anew(timed):
    for _ in range(3):
        timed((0.176, 0.500, 0.400), seconds=0.170)
    timed(seconds=0.150)
    ratio, _ = timed((0.018, 0.050, 0.045), seconds=0.020)
    assert ratio == pytest.approx(2.5)


def test_rounds_of_long_ago_do_not_count(timed):
    for _ in range(3):
        timed((0.010, 0.050, 0.030))
    for _ in range(4):  # the machine became slower for good
        timed((0.020, 0.080, 0.070), later=61)
    assert timed()[0] == pytest.approx(3)
    assert timed((0.020, 0.080, 0.070), later=61)[0] == pytest.approx(3.5)


def test_a_network_without_a_twin_says_why(models, monkeypatch):
    def refuse(**arguments):
        raise BinsegError("no precision")

    monkeypatch.setattr(twins, "create_model", refuse)
    found = segment_image(models, "alone", REFERENCE, IMAGE)
    assert found.times_faster is None
    assert found.faster_note == "not measured: the network has no full-precision twin"
    assert found.fp32_bytes > found.model_bytes


def test_times_are_split_where_the_network_begins_and_ends(models, monkeypatch):
    predictor = models.predictor("tiny", REFERENCE)
    ticks = iter(range(100))  # a clock that ticks whenever it is read
    monkeypatch.setattr("time.perf_counter", lambda: next(ticks))
    # by us, by Predictor, as the network begins and ends, by Predictor, by us
    found, milliseconds = predictor.timed(IMAGE)
    assert milliseconds == {"pre-processing": 2000, "network": 1000, "upsampling": 2000}
    assert found.seconds == 3


def test_faults_have_no_path(models):
    for key, backend in (("gone", REFERENCE), ("tiny", "abacus")):
        with pytest.raises(BinsegError) as caught:
            segment_image(models, key, backend, IMAGE)
        assert "/" not in str(caught.value)
