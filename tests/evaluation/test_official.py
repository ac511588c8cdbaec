"""The written files, read by the benchmarks' own rules, give the figures that binseg gives."""

import math
from pathlib import Path

import numpy as np
import pytest
from dataset_trees import write_cityscapes, write_voc
from PIL import Image

from binseg.data.cityscapes import CityscapesDataset
from binseg.data.datasets import DatasetOptions, create_dataset
from binseg.data.imageio import read_mask, write_mask
from binseg.data.labels import get_label_table
from binseg.data.samples import SegmentationDataset
from binseg.data.voc import VOCDataset
from binseg.errors import BinsegError
from binseg.evaluation.evaluate import score
from binseg.evaluation.export import Export
from binseg.evaluation.official import check_official, official_scores
from binseg.evaluation.result import Evaluation
from binseg.evaluation.voc_recount import recount

SIZE = (41, 83)


def with_void(root: Path, pattern: str, void: int) -> Path:
    """The tree, with void pixels in each of its masks."""
    for path in root.rglob(pattern):
        ids = read_mask(path)
        ids[5:9, 10:70] = void
        write_mask(path, ids)
    return root


def wrong_predictions(dataset: SegmentationDataset) -> tuple[dict[str, np.ndarray], list[int]]:
    """Partly wrong class maps, and three classes: one that is predicted alone, one that is
    predicted on void pixels alone, and one that is nowhere."""
    rng = np.random.default_rng(5)
    truths = [dataset.read_labels(place) for place in range(len(dataset))]
    used = sorted({int(value) for truth in truths for value in np.unique(truth)} - {255})
    alone, on_void, nowhere = [c for c in range(dataset.labels.num_classes) if c not in used][:3]
    found = {}
    for place, truth in enumerate(truths):
        guess = rng.choice([*used, alone], truth.shape)
        ids = np.where(rng.random(truth.shape) < 0.6, truth, guess)
        void = truth == 255
        assert void.any()
        ids[void] = rng.choice([*used, on_void], int(void.sum()))
        found[dataset.sample_name(place)] = ids.astype(np.uint8)
    return found, [alone, on_void, nowhere]


def scored(data: str, dataset: SegmentationDataset, out: Path) -> tuple[Evaluation, list[Path]]:
    """Scores wrong predictions and writes them; checks what is plain about their figures."""
    predictions, (alone, on_void, nowhere) = wrong_predictions(dataset)
    export = Export(out, data, "val", dataset.labels)
    found = score(
        lambda sample: predictions[sample.name], dataset, boundary_distance=None, export=export
    )
    assert found.scores.iou[alone] == 0.0
    assert math.isnan(found.scores.iou[on_void])
    assert math.isnan(found.scores.iou[nowhere])
    assert 0.1 < found.scores.mean_iou < 0.9
    return found, [export.path(dataset.sample_name(place)) for place in range(len(dataset))]


class TestCityscapes:
    @pytest.fixture(scope="class")
    def script(self):
        return pytest.importorskip(
            "cityscapesscripts.evaluation.evalPixelLevelSemanticLabeling", exc_type=ImportError
        )

    @pytest.fixture
    def dataset(self, tmp_path):
        root = write_cityscapes(tmp_path / "data", val=2, size=SIZE)
        return CityscapesDataset(with_void(root, "*_labelIds.png", 4), "val")

    def test_same_class_and_instance_scores(self, script, dataset, tmp_path):
        had_in1d = hasattr(np, "in1d")
        found, files = scored("cityscapes", dataset, tmp_path / "out")
        theirs = official_scores("cityscapes", dataset, files, instances=True)
        assert theirs.source.startswith("cityscapesScripts 2")
        assert theirs.largest_difference(found) <= 1e-9
        theirs.refuse_difference(found)
        # not only equal, but of what was meant
        assert found.instance_iou is not None
        assert theirs.instance_iou is not None
        car = found.scores.names.index("car")
        assert 0 < found.instance_iou[car] == pytest.approx(theirs.instance_iou["car"], abs=1e-12)
        assert found.instance_iou[car] != pytest.approx(found.scores.iou[car], abs=1e-3)
        assert math.isnan(found.instance_iou[found.scores.names.index("road")])
        assert hasattr(np, "in1d") == had_in1d  # numpy is left as it was

    def test_files_are_found_and_hold_label_ids(self, script, dataset, tmp_path):
        _, files = scored("cityscapes", dataset, tmp_path / "out")
        settings = script.CArgs()
        settings.predictionPath, settings.predictionWalk = str(tmp_path / "out"), None
        for place, file in enumerate(files):
            _, mask = dataset.sample_paths(place)
            assert script.getPrediction(settings, str(mask)) == str(file)
            with Image.open(file) as image:
                assert image.mode == "L"
                assert image.size == SIZE[::-1]
            evaluated = {label.id for label in script.labels if not label.ignoreInEval}
            assert set(np.unique(read_mask(file))) <= evaluated

    def test_a_changed_file_is_caught(self, script, dataset, tmp_path):
        found, files = scored("cityscapes", dataset, tmp_path / "out")
        ids = read_mask(files[1])
        counted = np.argwhere(dataset.read_labels(1) != 255)[0]
        ids[tuple(counted)] = 8 if ids[tuple(counted)] != 8 else 7
        write_mask(files[1], ids)
        theirs = official_scores("cityscapes", dataset, files, instances=False)
        assert theirs.largest_difference(found) > 1e-6
        with pytest.raises(BinsegError, match="score differently"):
            theirs.refuse_difference(found)

    @pytest.mark.parametrize(
        ("ids", "reason"),
        [(np.zeros((7, 9)), "are not equal"), (np.full(SIZE, 200), "out of bounds")],
    )
    def test_what_the_script_says_is_told(self, script, dataset, tmp_path, ids, reason):
        _, files = scored("cityscapes", dataset, tmp_path / "out")
        write_mask(files[0], ids.astype(np.uint8))
        with pytest.raises(BinsegError, match=rf"cityscapesScripts stopped \(.*{reason}"):
            official_scores("cityscapes", dataset, files, instances=True)

    def test_no_instance_score_without_all_instance_maps(self, tmp_path):
        root = write_cityscapes(tmp_path / "data", val=2, size=SIZE)
        with_void(root, "*_labelIds.png", 0)
        next(root.glob("gtFine/val/*/*_instanceIds.png")).unlink()
        found, _ = scored("cityscapes", CityscapesDataset(root, "val"), tmp_path / "out")
        assert found.instance_iou is None
        assert "mean_instance_iou" not in found.to_dict()["scores"]


class TestVOC:
    @pytest.fixture
    def dataset(self, tmp_path):
        root = write_voc(tmp_path / "data", val=2, size=SIZE)
        return VOCDataset(with_void(root, "SegmentationClass/*.png", 255), "val")

    def test_same_class_scores(self, dataset, tmp_path):
        found, files = scored("voc", dataset, tmp_path / "out")
        theirs = official_scores("voc", dataset, files, instances=False)
        assert "not the devkit itself" in theirs.source
        assert theirs.largest_difference(found) <= 1e-9

    def test_files_are_the_challenges(self, dataset, tmp_path):
        _, files = scored("voc", dataset, tmp_path / "out")
        folder = tmp_path / "out/results/VOC2012/Segmentation/comp6_val_cls"
        assert files == [folder / f"{dataset.sample_name(place)}.png" for place in range(2)]
        with Image.open(files[0]) as image:
            assert image.mode == "P"
            assert image.getpalette()[:9] == [0, 0, 0, 128, 0, 0, 0, 128, 0]
            assert np.asarray(image).max() <= 20

    def test_a_changed_file_is_caught(self, dataset, tmp_path):
        found, files = scored("voc", dataset, tmp_path / "out")
        ids = read_mask(files[0])
        counted = tuple(np.argwhere(dataset.read_labels(0) != 255)[0])
        ids[counted] = (ids[counted] + 1) % 21
        write_mask(files[0], ids)
        theirs = official_scores("voc", dataset, files, instances=False)
        with pytest.raises(BinsegError, match="score differently"):
            theirs.refuse_difference(found)

    def test_recount_by_hand(self, tmp_path):
        """Class 0: 1 of 3 pixels, class 1: 2 of 4; the void pixel is no false positive of 2."""
        write_mask(tmp_path / "gt.png", np.array([[0, 0, 1, 1, 1, 255]], np.uint8))
        write_mask(tmp_path / "result.png", np.array([[0, 1, 0, 1, 1, 2]], np.uint8))
        found = recount([(tmp_path / "result.png", tmp_path / "gt.png")], 4)
        assert found[:2] == (1 / 3, 2 / 4)
        assert math.isnan(found[2])
        assert math.isnan(found[3])

    @pytest.mark.parametrize(
        ("ids", "reason"), [([[21, 0]], "out of range value 21"), ([[0]], "the wrong size")]
    )
    def test_faults_of_the_devkit(self, tmp_path, ids, reason):
        write_mask(tmp_path / "gt.png", np.zeros((1, 2), np.uint8))
        write_mask(tmp_path / "result.png", np.array(ids, np.uint8))
        with pytest.raises(BinsegError, match=rf"result\.png: {reason}"):
            recount([(tmp_path / "result.png", tmp_path / "gt.png")])


class TestRefused:
    def test_a_data_set_without_an_official_evaluator(self):
        scenes = create_dataset("scenes", "val", DatasetOptions(length=1, size=(32, 32)))
        with pytest.raises(BinsegError, match="'scenes' has no official evaluator"):
            check_official("scenes", scenes)

    def test_some_of_the_classes(self, tmp_path):
        options = DatasetOptions(root=str(write_voc(tmp_path)), classes=["cat", "dog"])
        with pytest.raises(
            BinsegError, match="2 classes of your choice and not those of the benchmark"
        ):
            check_official("voc", create_dataset("voc", "val", options))

    def test_labels_that_are_not_public(self, tmp_path):
        dataset = VOCDataset(write_voc(tmp_path, test=1), "test")
        with pytest.raises(BinsegError, match="not public"):
            check_official("voc", dataset)

    def test_masks_of_sbd(self, tmp_path):
        dataset = VOCDataset(write_voc(tmp_path, sbd=2), "trainaug")
        with pytest.raises(BinsegError, match="SBD"):
            check_official("voc", dataset)


class TestExport:
    def test_raw_ids_of_other_data_sets(self, tmp_path):
        export = Export(tmp_path, "camvid", "val", get_label_table("camvid"))
        export.write("a", np.array([[0, 10, 255]], np.uint8))
        export.write("a", np.array([[1, 10, 255]], np.uint8))  # again: the old file goes
        assert read_mask(tmp_path / "a.png").tolist() == [[1, 10, 255]]
        assert [path.name for path in tmp_path.iterdir()] == ["a.png"]

    def test_wide_raw_ids(self, tmp_path):
        labels = get_label_table("camvid").from_dict(
            {"name": "w", "names": ["a"], "palette": [[0, 0, 0]], "raw_to_train": {"700": 0}}
        )
        Export(tmp_path, "folder", "val", labels).write("a", np.zeros((2, 3), np.uint8))
        assert (read_mask(tmp_path / "a.png") == 700).all()

    @pytest.mark.parametrize("data", ["voc", "cityscapes"])
    def test_a_benchmark_wants_every_pixel(self, data, tmp_path):
        export = Export(tmp_path, data, "val", get_label_table(data))
        with pytest.raises(BinsegError, match="pixels without a class"):
            export.write("a", np.full((2, 2), 255, np.uint8))
