"""The demo's fixed list, and what runs its models."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from demo_models import CLASSES, write_tiny
from trained_networks import trained

from binseg import shipped
from binseg.data.labels import get_label_table
from binseg.data.preprocess import Preprocessing
from binseg.data.scenes import draw_scene
from binseg.demo import backends as running
from binseg.demo.backends import PackedRunner, backends, timed_again
from binseg.demo.models import ModelList
from binseg.errors import BinsegError
from binseg.loaded import save
from binseg.model_file import write_model_file
from binseg.predictor import Predictor
from binseg.program.executor import REFERENCE
from binseg.runtime.library import LibraryError, isas


@pytest.fixture
def models(tmp_path) -> ModelList:
    return ModelList([write_tiny(tmp_path), write_tiny(tmp_path, name="alone", twin=False)])


def test_the_list(models, tmp_path):
    assert models.keys == ["tiny", "alone"]
    tiny = models.get("tiny")
    assert tiny.title == "tiny: groupnet18, scenes classes"
    assert models.bytes("tiny") == tiny.path.stat().st_size > 0
    assert tiny.twin == tmp_path / "tiny.twin.safetensors"
    assert models.get("alone").twin is None
    assert models.first == "tiny"
    with pytest.raises(BinsegError, match=r"unknown model 'x' \(known: alone, tiny\)") as caught:
        models.get("x")
    assert "/" not in str(caught.value)


def test_files_of_one_name_have_keys_of_their_own(tmp_path):
    paths = [write_tiny(tmp_path / name, twin=False) for name in ("a", "b")]
    models = ModelList(paths)
    assert models.keys == ["tiny", "tiny-2"]
    assert models.get("tiny-2").path == paths[1]


def test_without_files_the_shipped_ones(tmp_path, monkeypatch):
    write_tiny(tmp_path, name="camera", twin=False, table="camvid")
    write_tiny(tmp_path, name="own")
    monkeypatch.setattr(shipped, "FOLDER", tmp_path)
    models = ModelList()
    assert models.keys == ["camera", "own"]
    assert models.get("own").twin is not None
    assert models.first == "own"  # what the drawn examples are good for
    with pytest.raises(BinsegError, match="no such model file"):
        ModelList([tmp_path / "gone.safetensors"])
    monkeypatch.setattr(shipped, "FOLDER", tmp_path / "nothing")
    with pytest.raises(BinsegError, match="give a model file"):
        ModelList()


def test_a_classifier_is_refused_at_once(tmp_path):
    write_model_file(tmp_path / "c.safetensors", {"kind": "classifier"}, {})
    with pytest.raises(BinsegError, match="no segmentation network"):
        ModelList([tmp_path / "c.safetensors"])


def test_faults_found_later_have_no_path(models):
    path = models.get("tiny").path
    path.write_bytes(path.read_bytes()[:3000])
    for call in (
        lambda: models.runner("tiny", REFERENCE),
        lambda: models.runner("tiny", backends()[0]),
        lambda: models.load("tiny"),
    ):
        with pytest.raises(BinsegError, match=r"^tiny\.safetensors: not a readable") as caught:
            call()
        assert "/" not in str(caught.value)


def test_without_the_library_the_reference_is_left(monkeypatch):
    def fail():
        raise LibraryError("no library")

    monkeypatch.setattr("binseg.program.executor.isas", fail)
    assert backends() == [REFERENCE]


def test_every_backend_says_what_the_predictor_says(models):
    image = draw_scene(0, 0, (45, 61)).image
    expected = Predictor(models.get("tiny").path, device="cpu")(image).class_map
    names = backends()
    assert names[-1] == REFERENCE
    assert set(names) == {*isas(), REFERENCE}
    for name in names:
        class_map, milliseconds = models.runner("tiny", name).timed(image)
        assert np.array_equal(class_map, expected)
        assert list(milliseconds) == list(running.STEPS)
        assert all(value >= 0 for value in milliseconds.values())
    for key, backend in (("x", REFERENCE), ("tiny", "abacus")):
        with pytest.raises(BinsegError, match="unknown"):
            models.runner(key, backend)


def test_the_backend_asked_for_runs_the_network(models, monkeypatch):
    opened = []
    network = running.Network

    def note(content, *, isa, threads):
        opened.append(isa)
        return network(content, isa=isa, threads=threads)

    monkeypatch.setattr(running, "Network", note)
    names = [name for name in backends() if name != REFERENCE]
    for name in [*names, REFERENCE, *names]:
        models.runner("tiny", name)
    assert opened == names


def test_the_twin(models):
    image = draw_scene(0, 0, (45, 61)).image
    twin = models.runner("tiny", REFERENCE, "full")
    expected = Predictor(models.get("tiny").twin, device="cpu")(image).class_map
    class_map, milliseconds = twin.timed(image)
    assert (class_map == expected).mean() > 0.999  # another format in memory, another order of sums
    assert list(milliseconds) == list(running.STEPS)
    assert twin is models.runner("tiny", backends()[0], "full")
    with pytest.raises(BinsegError, match="alone comes without a full-precision twin"):
        models.runner("alone", REFERENCE, "full")


def test_a_float_file_runs_packed_and_finds_its_twin(tmp_path):
    table = get_label_table("scenes")
    for name, precision in (("own", "binary"), ("own_twin", "full")):
        network = trained(num_classes=CLASSES, precision=precision)
        save(tmp_path / f"{name}.safetensors", network, table, Preprocessing())
    models = ModelList([tmp_path / "own.safetensors", tmp_path / "own_twin.safetensors"])
    image = draw_scene(0, 0, (45, 61)).image
    runner = models.runner("own", backends()[0])
    assert isinstance(runner, PackedRunner)
    expected = Predictor(tmp_path / "own.safetensors", device="cpu")(image).class_map
    assert (runner.timed(image)[0] == expected).mean() > 0.999
    assert models.bytes("own") < (tmp_path / "own.safetensors").stat().st_size / 4
    assert models.get("own").twin == tmp_path / "own_twin.safetensors"
    # what has no bits runs as it is
    expected = Predictor(tmp_path / "own_twin.safetensors", device="cpu")(image).class_map
    found, _ = models.runner("own_twin", backends()[0]).timed(image)
    assert (found == expected).mean() > 0.999


def test_a_model_is_opened_once(models, monkeypatch):
    opened = []

    def note(path, backend):
        opened.append((path.name, backend))
        return PackedRunner(path, backend)

    monkeypatch.setattr("binseg.demo.models.PackedRunner", note)
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: models.runner("tiny", REFERENCE), range(8)))
    assert len(set(map(id, found))) == 1
    assert opened == [("tiny.safetensors", REFERENCE)]


def test_one_image_at_a_time(models):
    """Not even two networks run at once."""
    inside, most = 0, 0

    def scores(seen):
        nonlocal inside, most
        inside += 1
        most = max(most, inside)
        result = original(seen)
        inside -= 1
        return result

    runners = [models.runner(key, REFERENCE) for key in ("tiny", "alone")]
    original = runners[0]._scores
    for runner in runners:
        runner._scores = scores
    image = draw_scene(0, 0, (33, 33)).image
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda index: runners[index % 2].timed(image), range(8)))
    assert most == 1


def test_times_are_those_of_the_fastest_run():
    class Paced:
        def __init__(self, *times):
            self.times = list(times)

        def timed(self, image):
            return image, dict.fromkeys(running.STEPS, self.times.pop(0))

    image = np.zeros((1, 1), np.uint8)
    short = Paced(9.0, 2.0, 3.0, 1.0)
    assert timed_again(short, image)[1] == dict.fromkeys(running.STEPS, 2.0)
    assert short.times == [1.0]
    # nobody waits for a second run of what takes long
    assert timed_again(Paced(90.0), image)[1] == dict.fromkeys(running.STEPS, 90.0)
