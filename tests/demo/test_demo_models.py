"""The demo's fixed list, its predictors, and the network that is trained where none is there."""

import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
from demo_models import CLASSES, write_tiny
from trained_networks import trained

from binseg import shipped
from binseg.data.labels import get_label_table
from binseg.data.preprocess import Preprocessing
from binseg.data.scenes import draw_scene
from binseg.demo import training
from binseg.demo.backends import backends
from binseg.demo.models import ModelList
from binseg.demo.training import quickstart_models
from binseg.errors import BinsegError
from binseg.loaded import load, read_header, save
from binseg.model_file import write_model_file
from binseg.predictor import Predictor
from binseg.program.executor import REFERENCE
from binseg.quickstart import quickstart_experiment
from binseg.runtime.library import LibraryError, isas
from binseg.training.run import TrainingResult


@pytest.fixture
def models(tmp_path) -> ModelList:
    return ModelList([write_tiny(tmp_path), write_tiny(tmp_path, name="alone", twin=False)])


def test_the_list(models, tmp_path):
    assert models.keys == ["tiny", "alone"]
    tiny = models.get("tiny")
    assert tiny.title == "tiny: groupnet18, scenes classes"
    assert tiny.bytes == tiny.path.stat().st_size > 0
    assert tiny.twin == tmp_path / "tiny.twin.safetensors"
    assert models.get("alone").twin is None
    with pytest.raises(BinsegError, match=r"unknown model 'x' \(known: alone, tiny\)") as caught:
        models.get("x")
    assert "/" not in str(caught.value)


def test_files_of_one_name_have_keys_of_their_own(tmp_path):
    paths = [write_tiny(tmp_path / name, twin=False) for name in ("a", "b")]
    models = ModelList(paths)
    assert models.keys == ["tiny", "tiny-2"]
    assert models.get("tiny-2").path == paths[1]


def test_without_files_the_shipped_ones(tmp_path, monkeypatch):
    write_tiny(tmp_path, name="own")
    monkeypatch.setattr(shipped, "FOLDER", tmp_path)
    models = ModelList()
    assert models.keys == ["own"]
    assert models.get("own").twin is not None
    with pytest.raises(BinsegError, match="no such model file"):
        ModelList([tmp_path / "gone.safetensors"])


def test_a_classifier_is_refused_at_once(tmp_path):
    write_model_file(tmp_path / "c.safetensors", {"kind": "classifier"}, {})
    with pytest.raises(BinsegError, match="no segmentation network"):
        ModelList([tmp_path / "c.safetensors"])


def test_faults_found_later_have_no_path(models, tmp_path, monkeypatch):
    path = models.get("tiny").path
    path.write_bytes(path.read_bytes()[:3000])
    with pytest.raises(BinsegError, match=r"^tiny\.safetensors: not a readable") as caught:
        models.predictor("tiny", REFERENCE)
    assert "/" not in str(caught.value)

    def fail(folder, report):
        raise BinsegError(f"{folder / 'binary'}: no space left")

    monkeypatch.setattr("binseg.demo.training.quickstart_models", fail)
    monkeypatch.setattr(shipped, "FOLDER", tmp_path / "nothing")
    monkeypatch.setenv("BINSEG_CACHE", str(tmp_path / "cache"))
    with pytest.raises(BinsegError, match=r"^demo/binary: no space left"):
        ModelList().prepare("quickstart")


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
        assert np.array_equal(models.predictor("tiny", name)(image).class_map, expected)
    for key, backend in (("x", REFERENCE), ("tiny", "abacus")):
        with pytest.raises(BinsegError, match="unknown"):
            models.predictor(key, backend)


def test_the_backend_asked_for_runs_the_network(models):
    image = draw_scene(0, 0, (45, 61)).image
    for name in (REFERENCE, backends()[0], REFERENCE):
        predictor = models.predictor("tiny", name)
        predictor(image)
        assert predictor.model.executor.backend == name


def test_the_twin(models):
    image = draw_scene(0, 0, (45, 61)).image
    twin = models.predictor("tiny", REFERENCE, "full")
    expected = Predictor(models.get("tiny").twin, device="cpu")(image).class_map
    assert np.array_equal(twin(image).class_map, expected)
    with pytest.raises(BinsegError, match="alone comes without a full-precision twin"):
        models.predictor("alone", REFERENCE, "full")


def test_a_model_is_opened_once(models, monkeypatch):
    opened = []
    monkeypatch.setattr(
        "binseg.demo.models.load", lambda path: opened.append(path.name) or load(path)
    )
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: models.predictor("tiny", REFERENCE), range(8)))
    assert len(set(map(id, found))) == 1
    models.predictor("tiny", backends()[0])
    assert opened == ["tiny.safetensors"]


def test_one_image_at_a_time(models):
    """Not even two predictors run at once on one device."""
    inside, most = 0, 0

    def network(x):
        nonlocal inside, most
        inside += 1
        most = max(most, inside)
        result = original(x)
        inside -= 1
        return result

    predictors = [models.predictor(key, REFERENCE) for key in ("tiny", "alone")]
    original = predictors[0].network._network
    for predictor in predictors:
        predictor.network = network
    image = draw_scene(0, 0, (33, 33)).image
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda index: predictors[index % 2](image), range(8)))
    assert most == 1


def short_experiment():
    experiment = quickstart_experiment()
    return replace(
        experiment,
        data=replace(
            experiment.data, crop=(32, 32), scenes_size=(32, 48), scenes_train=8, scenes_val=2,
            calibration_images=8,
        ),
        model=replace(experiment.model, width=8),
        trainer=replace(experiment.trainer, epochs=1, validate_every=1, overlays=0),
    )  # fmt: skip


def test_the_quickstarts_network_is_trained_once_and_goes_on(tmp_path, monkeypatch):
    reports: list[tuple[float, str]] = []
    trainings = []

    def train(experiment, folder, *, resume):
        precision = experiment.model.precision
        trainings.append((precision, resume))
        if len(trainings) == 2:
            raise BinsegError("stopped")
        path = folder / "best.safetensors"
        network = trained(num_classes=CLASSES, precision=precision)
        save(path, network, get_label_table("scenes"), Preprocessing(), training={"miou": 0.5})
        return TrainingResult(folder, path, 0.5, 1, None)

    monkeypatch.setattr(training, "train", train)
    arguments = (tmp_path, lambda *report: reports.append(report), quickstart_experiment())
    with pytest.raises(BinsegError, match="stopped"):
        quickstart_models(*arguments)
    packed, twin = quickstart_models(*arguments)
    assert trainings == [("binary", True), ("full", True), ("full", True)]
    assert read_header(packed)["kind"] == "packed"
    assert read_header(packed)["training"]["miou"] == 0.5
    assert read_header(twin)["architecture"]["precision"] == "full"
    shares = [share for share, _ in reports]
    assert all(0 <= share <= 1 for share in shares)
    assert reports[0] == (0, "training the 1-bit network")
    assert reports[-1] == (1, "the networks are ready")
    before = packed.stat().st_mtime_ns
    assert quickstart_models(*arguments) == (packed, twin)
    assert len(trainings) == 3
    assert packed.stat().st_mtime_ns == before


def test_a_list_without_any_model_trains_on_first_use(tmp_path, monkeypatch):
    monkeypatch.setattr(shipped, "FOLDER", tmp_path / "nothing")
    monkeypatch.setenv("BINSEG_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("binseg.demo.training.quickstart_experiment", short_experiment)
    models = ModelList()
    assert models.keys == ["quickstart"]
    assert models.get("quickstart").bytes == 0
    texts = []
    models.prepare("quickstart", lambda share, text: texts.append(text))
    assert re.search("training the 1-bit network", texts[0])
    choice = models.get("quickstart")
    assert choice.bytes > 0
    assert choice.path.parent == tmp_path / "cache" / "demo"
    image = draw_scene(0, 0, (32, 48)).image
    for precision in ("binary", "full"):
        found = models.predictor("quickstart", REFERENCE, precision)(image)
        assert found.class_map.shape == (32, 48)
