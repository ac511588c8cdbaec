"""Scoring a data set: from a network, and from masks on the disk."""

import dataclasses
import json
import math

import numpy as np
import pytest
import torch
from grey_images import PLAIN, GreyNet, Images, make_images, table
from PIL import Image

from binseg.data.imageio import write_image, write_mask
from binseg.distributed.processes import Processes
from binseg.errors import BinsegError
from binseg.evaluation.boundary import DISTANCE
from binseg.evaluation.evaluate import check_same_classes, network_predictions, score
from binseg.evaluation.prediction_files import FolderPredictions
from binseg.evaluation.scores import Scores, confusion
from binseg.evaluation.tally import Tally


def maps(count: int = 6, classes: int = 4) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    sizes = [(20, 30), (17, 23), (31, 8)]
    found = [rng.integers(0, classes, sizes[index % 3]) for index in range(count)]
    found[1][3:6] = 255
    return found


def test_a_network_that_is_right_scores_one():
    dataset = make_images(*maps())
    found = score(network_predictions(GreyNet(4), PLAIN), dataset)
    assert found.scores.iou == (1.0,) * 4
    assert found.boundary_iou == (1.0,) * 4
    assert found.mean_boundary_iou == 1.0
    assert [image.name for image in found.images] == [f"image{i}" for i in range(6)]
    assert all(image.mean_iou == 1.0 for image in found.images)


def test_figures_are_those_of_one_matrix_over_the_set():
    dataset = make_images(*maps())
    wrong = {sample.name: np.roll(sample.labels, 1, axis=1) for sample in dataset}
    for ids in wrong.values():
        ids[ids == 255] = 0
    found = score(lambda sample: wrong[sample.name], dataset, worst=2)
    matrices = [
        confusion(torch.from_numpy(wrong[s.name]), torch.from_numpy(s.labels), 4) for s in dataset
    ]
    assert found.scores == Scores.of(sum(matrices), dataset.labels.names)
    alone = [Scores.of(matrix, dataset.labels.names).mean_iou for matrix in matrices]
    assert [image.mean_iou for image in found.images] == pytest.approx(alone)
    assert [kept.place for kept in found.worst] == np.argsort(alone)[:2].tolist()
    for kept in found.worst:
        assert kept.score == found.images[kept.place]
        assert np.array_equal(kept.prediction, wrong[kept.score.name])


def test_a_image_without_labels_is_never_among_the_worst():
    dataset = make_images(np.full((4, 4), 255), np.ones((4, 4), dtype=int))
    found = score(lambda sample: np.zeros((4, 4), np.uint8), dataset, worst=5)
    assert [kept.place for kept in found.worst] == [1]
    assert math.isnan(found.images[0].mean_iou)


def test_json_names_classes_and_keeps_what_was_said():
    found = score(
        network_predictions(GreyNet(4), PLAIN), make_images(np.zeros((5, 5))), about={"data": "x"}
    )
    plain = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert plain["data"] == "x"
    assert plain["scores"]["classes"]["class 0"]["boundary_iou"] == 1.0
    assert plain["scores"]["classes"]["class 1"]["boundary_iou"] is None
    assert plain["pictures"] == [
        {"name": "image0", "mean_iou": 1.0, "pixel_accuracy": 1.0, "iou": {"class 0": 1.0}}
    ]


def test_boundary_iou_can_be_left_out():
    found = score(
        network_predictions(GreyNet(4), PLAIN), make_images(*maps()), boundary_distance=None
    )
    assert found.boundary_iou is None
    assert found.mean_boundary_iou is None
    assert "mean_boundary_iou" not in found.to_dict()["scores"]


def test_what_other_processes_count_is_merged_in_the_data_sets_order():
    """Three shares, merged, against one evaluation of all; more shares than images as well."""
    dataset = make_images(*maps())
    wrong = {sample.name: np.roll(sample.labels, 1, axis=1) for sample in dataset}
    for ids in wrong.values():
        ids[ids == 255] = 0
    expected = score(lambda sample: wrong[sample.name], dataset, worst=2)
    for size in (3, 8):
        tallies = []
        for rank in range(size):
            tallies.append(Tally(dataset.labels, DISTANCE, worst=2))
            for place in Processes(rank, size).share(len(dataset)):
                sample = dataset[place]
                tallies[-1].add(place, sample, wrong[sample.name], None)
        first, *others = tallies
        for other in others:
            first.merge(other)
        found = first.evaluation(0.0, {})
        assert {**found.to_dict(), "seconds": 0} == {**expected.to_dict(), "seconds": 0}
        assert [kept.place for kept in found.worst] == [kept.place for kept in expected.worst]


def test_a_split_without_public_labels_is_not_scored():
    dataset = make_images(*maps(2))
    dataset.labelled = False
    with pytest.raises(BinsegError, match=r"not public.*--export"):
        score(network_predictions(GreyNet(4), PLAIN), dataset)


class TestFolder:
    @pytest.fixture
    def dataset(self):
        return make_images(*maps(3))

    def write_all(self, folder, dataset, first=0):
        for sample in dataset.samples[first:]:
            write_mask(folder / f"{sample.name}.png", sample.labels, dataset.labels.palette)

    def test_scores_masks_at_any_depth(self, tmp_path, dataset):
        dataset.samples[1].labels[:] = 2  # a 255 there is not for predictions
        self.write_all(tmp_path / "deep/er", dataset)
        found = score(FolderPredictions(tmp_path, dataset), dataset)
        assert found.scores.mean_iou == 1.0

    def test_every_missing_mask_is_known_before_the_first_is_scored(self, tmp_path, dataset):
        self.write_all(tmp_path, dataset, first=2)
        with pytest.raises(BinsegError, match=r"2 of 3 predictions are missing.*image0\.png;"):
            FolderPredictions(tmp_path, dataset)
        with pytest.raises(BinsegError, match="no such folder"):
            FolderPredictions(tmp_path / "no", dataset)

    def test_two_for_one_image(self, tmp_path, dataset):
        self.write_all(tmp_path, dataset)
        self.write_all(tmp_path / "b", dataset, first=2)
        with pytest.raises(BinsegError, match=r"2 predictions for image image2.*keep one"):
            FolderPredictions(tmp_path, dataset)

    @pytest.mark.parametrize(
        ("ids", "words"),
        [
            (np.zeros((3, 3)), r"image0\.png: 3 × 3 pixels, but the label has 30 × 20"),
            (np.full((20, 30), 9), "image0: predicted ids 9 are outside 0..3"),
            (np.full((20, 30), 255), r"image0\.png: 600 labelled pixels have no class \(255\)"),
        ],
    )
    def test_masks_that_cannot_be_scored(self, tmp_path, dataset, ids, words):
        self.write_all(tmp_path, dataset)
        write_mask(tmp_path / "image0.png", ids.astype(np.uint8))
        with pytest.raises(BinsegError, match=words):
            score(FolderPredictions(tmp_path, dataset), dataset)

    def test_colours_and_wide_ids(self, tmp_path, dataset):
        self.write_all(tmp_path, dataset)
        write_image(tmp_path / "image0.png", np.zeros((20, 30, 3), np.uint8))
        read = FolderPredictions(tmp_path, dataset)
        with pytest.raises(BinsegError, match=r"image0\.png: the mask holds colours"):
            read(dataset[0])
        wide = dataset[0].labels.astype(np.uint16)
        Image.fromarray(wide).save(tmp_path / "image0.png")
        assert np.array_equal(read(dataset[0]), dataset[0].labels)
        Image.fromarray(wide + 500).save(tmp_path / "image0.png")
        with pytest.raises(BinsegError, match=r"image0\.png: ids from 500 to 503"):
            read(dataset[0])

    def test_cityscapes_names_may_go_on(self, tmp_path, dataset):
        names = ["ulm_000001_000019", "ulm_000001_000020", "bonn_000000_000019"]
        for place, name in enumerate(names):
            dataset.samples[place] = dataset[place]._replace(name=name)
            write_mask(tmp_path / f"x/{name}_leftImg8bit.png", dataset[place].labels)
        found = FolderPredictions(tmp_path, dataset)
        assert [file.name for file in found.files] == [f"{n}_leftImg8bit.png" for n in names]


def test_a_faulty_image_ends_the_evaluation_with_its_name():
    class Faulty(Images):
        def __getitem__(self, index):
            if index == 1:
                raise BinsegError("b.jpg: damaged")
            return super().__getitem__(index)

    dataset = Faulty(make_images(*maps()).samples, table(4))
    with pytest.raises(BinsegError, match=r"b\.jpg"):
        score(network_predictions(GreyNet(4), PLAIN), dataset)


class TestClasses:
    def test_the_same(self):
        check_same_classes(table(3), dataclasses.replace(table(3), name="other"), "m")

    def test_the_difference_is_listed(self):
        other = dataclasses.replace(table(3), name="roads", names=("class 0", "road", "class 2"))
        with pytest.raises(BinsegError) as caught:
            check_same_classes(other, table(4), "model.safetensors")
        text = str(caught.value)
        assert text.startswith("model.safetensors: a model of other classes ('roads', 3)")
        assert "only in the model: road;" in text
        assert "only in the data: class 1, class 3;" in text
        assert "\n" not in text

    def test_another_order(self):
        other = dataclasses.replace(table(3), names=("class 1", "class 0", "class 2"))
        with pytest.raises(BinsegError, match="another order"):
            check_same_classes(other, table(3), "m")
