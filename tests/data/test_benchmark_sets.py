"""PASCAL VOC and Cityscapes in their own layouts, and subsets of classes."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from dataset_trees import write_cityscapes, write_voc
from PIL import Image

from binseg.data import voc
from binseg.data.cityscapes import CityscapesDataset
from binseg.data.config import DataConfig
from binseg.data.datasets import DatasetOptions, create_dataset
from binseg.data.labels import class_subset, get_label_table
from binseg.data.module import SegmentationData
from binseg.data.voc import VOCDataset
from binseg.errors import BinsegError


def names(dataset) -> list[str]:
    return [dataset.sample_name(index) for index in range(len(dataset))]


def test_voc_splits(tmp_path):
    write_voc(tmp_path, train=4, val=3, test=2)
    assert names(VOCDataset(tmp_path, "train")) == [f"2008_{n:06d}" for n in range(4)]
    assert names(VOCDataset(tmp_path, "val")) == [f"2008_{n:06d}" for n in range(1000, 1003)]
    assert len(VOCDataset(tmp_path, "trainval")) == 7
    assert VOCDataset(tmp_path, "train").expected == 1464


@pytest.mark.parametrize("below", ["", "VOCdevkit", "VOCdevkit/VOC2012"])
def test_voc_root_may_be_any_of_three_folders(tmp_path, below, monkeypatch):
    write_voc(tmp_path)
    assert len(VOCDataset(tmp_path / below, "train")) == 4
    monkeypatch.chdir(tmp_path / below)
    assert len(VOCDataset(".", "train")) == 4


def test_voc_masks_are_palette_indices_with_void(tmp_path):
    write_voc(tmp_path)
    dataset = VOCDataset(tmp_path, "train")
    for index in range(4):
        image, labels, name = dataset[index]
        mask = tmp_path / "VOCdevkit/VOC2012/SegmentationClass" / f"{name}.png"
        with Image.open(mask) as opened:
            assert opened.mode == "P"
            np.testing.assert_array_equal(labels, np.asarray(opened))
        assert image.shape == (*labels.shape, 3)
    assert any((dataset[index].labels == 255).any() for index in range(4))


def test_trainaug_is_train_and_sbd_without_val(tmp_path):
    write_voc(tmp_path, train=4, val=3, sbd=5)
    dataset = VOCDataset(tmp_path, "trainaug")
    # SBD also lists one image of train, whose mask stays VOC's own, and one of val
    assert names(dataset) == names(VOCDataset(tmp_path, "train")) + [
        f"2009_{n:06d}" for n in range(5)
    ]
    assert dataset.expected == 10582
    np.testing.assert_array_equal(dataset[0].labels, VOCDataset(tmp_path, "train")[0].labels)
    assert dataset[8].labels.shape == (40, 60)
    assert dataset[8].labels.max() <= 20


def test_trainaug_in_the_form_of_other_toolkits(tmp_path):
    write_voc(tmp_path, train=2, val=1, sbd=3)
    voc = tmp_path / "VOCdevkit/VOC2012"
    by_mat = VOCDataset(tmp_path, "trainaug")
    (voc / "SegmentationClassAug").mkdir()
    for index in range(len(by_mat)):
        _, labels, name = by_mat[index]
        Image.fromarray(labels).save(voc / "SegmentationClassAug" / f"{name}.png")
        image = voc / "JPEGImages" / f"{name}.jpg"
        image.write_bytes(by_mat.pairs[index].image.read_bytes())
    (voc / "ImageSets/Segmentation/trainaug.txt").write_text("\n".join(names(by_mat)))
    by_png = VOCDataset(tmp_path, "trainaug")
    assert names(by_png) == names(by_mat)
    assert all(pair.mask.suffix == ".png" for pair in by_png.pairs)
    np.testing.assert_array_equal(by_png[4].labels, by_mat[4].labels)


def test_sbd_as_its_archive_unpacks_it(tmp_path):
    write_voc(tmp_path, sbd=2)
    deeper = tmp_path / "elsewhere/benchmark_RELEASE"
    deeper.mkdir(parents=True)
    (tmp_path / "sbd").rename(deeper / "dataset")
    with pytest.raises(BinsegError, match=r"sbd.*img/ and cls/ are missing"):
        VOCDataset(tmp_path, "trainaug")
    assert len(VOCDataset(tmp_path, "trainaug", sbd_root=tmp_path / "elsewhere")) == 6


def test_voc_test_split_has_no_labels(tmp_path):
    write_voc(tmp_path, test=2)
    dataset = VOCDataset(tmp_path, "test")
    assert len(dataset) == 2
    assert not dataset.labelled
    assert dataset[1].labels.shape == (40, 60)
    assert (dataset[1].labels == 255).all()


def test_cityscapes_train_ids_from_label_ids(tmp_path):
    write_cityscapes(tmp_path, train=4, val=2)
    dataset = CityscapesDataset(tmp_path, "train")
    assert names(dataset) == [
        "aachen_000000_000019",
        "aachen_000003_000019",
        "bochum_000001_000019",
        "ulm_000002_000019",
    ]
    image, labels, _ = dataset[2]
    assert image.shape == (64, 128, 3)
    with Image.open(
        tmp_path / "gtFine/train/bochum/bochum_000001_000019_gtFine_labelIds.png"
    ) as opened:
        raw = np.asarray(opened)
    assert (labels[raw == 26] == 13).all()  # car
    assert (labels[np.isin(raw, (0, 4, 9))] == 255).all()
    assert dataset.expected == 2975


def test_cityscapes_instances(tmp_path):
    write_cityscapes(tmp_path)
    dataset = CityscapesDataset(tmp_path, "val")
    instances = dataset.read_instances(0)
    assert instances.dtype == np.int32
    assert {26000, 26001} & set(np.unique(instances).tolist())
    (tmp_path / "gtFine/val/aachen/aachen_000000_000019_gtFine_instanceIds.png").unlink()
    assert dataset.read_instances(0) is None


def test_cityscapes_coarse_labels_train_and_fine_ones_score(tmp_path):
    write_cityscapes(tmp_path, train=1, val=1, train_extra=3)
    config = DataConfig(
        name="cityscapes", root=str(tmp_path), train_split="train_extra", annotations="coarse"
    )
    train, val = config.open("train"), config.open("val")
    assert len(train) == 3
    assert "gtCoarse" in str(train.sample_paths(0)[1])
    assert "gtFine" in str(val.sample_paths(0)[1])


def test_cityscapes_test_split_needs_no_masks(tmp_path):
    write_cityscapes(tmp_path, test=2)
    dataset = CityscapesDataset(tmp_path, "test")
    assert len(dataset) == 2
    assert not dataset.labelled
    assert (dataset[0].labels == 255).all()


def test_a_subset_of_classes(tmp_path):
    write_voc(tmp_path)
    chosen = ["background", "person", "cat"]
    whole = VOCDataset(tmp_path, "train")
    part = create_dataset("voc", "train", DatasetOptions(root=str(tmp_path), classes=chosen))
    assert part.labels.names == tuple(chosen)
    for index in range(len(whole)):
        old, new = whole[index].labels, part[index].labels
        np.testing.assert_array_equal(new == 0, old == 0)
        np.testing.assert_array_equal(new == 1, old == 15)
        np.testing.assert_array_equal(new == 2, old == 8)
        np.testing.assert_array_equal(new == 255, ~np.isin(old, (0, 15, 8)))
        np.testing.assert_array_equal(part.read_labels(index), new)
        # by way of the raw ids in the file the same comes out
        raw = np.asarray(Image.open(whole.pairs[index].mask))
        np.testing.assert_array_equal(part.labels.encode(raw, "mask"), new)


def test_classes_of_the_command_line():
    animals = "background, cat,cow,dog,horse,sheep,person"
    assert DataConfig(name="voc", classes=animals).label_table().name == "voc_animals"
    assert DataConfig(name="voc", classes=["dog"]).label_table().name == "voc"
    with pytest.raises(BinsegError, match=r"unknown class of 'voc' 'hores'; did you mean 'horse'"):
        DataConfig(name="voc", classes="cat,hores").label_table()
    with pytest.raises(BinsegError, match="more than once"):
        DataConfig(name="voc", classes="cat,cat").label_table()
    with pytest.raises(BinsegError, match="names no class"):
        DataConfig(name="voc", classes=" ,")


@pytest.mark.parametrize("table", ["voc", "cityscapes", "camvid", "scenes"])
def test_decode_is_the_inverse_of_encode(table):
    labels = get_label_table(table)
    train = np.array([[*range(labels.num_classes), 255]], np.uint8)
    raw = labels.decode(train)
    assert raw.dtype == np.uint8
    np.testing.assert_array_equal(labels.encode(raw, "x"), train)


def test_decode_of_a_subset_gives_the_ids_of_the_files():
    animals = class_subset(get_label_table("voc"), ["background", "cat", "person"])
    assert animals.decode(np.array([[0, 1, 2, 255]], np.uint8)).tolist() == [[0, 8, 15, 255]]


@pytest.mark.parametrize(
    ("name", "split", "wanted"),
    [("voc", "trainagu", "trainaug"), ("cityscapes", "trainextra", "train_extra")],
)
def test_an_unknown_training_split(name, split, wanted):
    with pytest.raises(BinsegError, match=f"did you mean '{wanted}'"):
        DataConfig(name=name, root="x", train_split=split).open("val")


def test_the_number_of_images_is_said(tmp_path, monkeypatch):
    write_voc(tmp_path, train=4, val=3, sbd=5)
    data = SegmentationData(DataConfig(name="voc", root=str(tmp_path), train_split="trainaug"))
    assert data.in_words() == (
        "voc: 9 images (the full set has 10,582) for training (trainaug), "
        "3 images (the full set has 1,449) for scoring"
    )
    monkeypatch.setitem(voc.FULL_SIZES, "val", 3)
    data = SegmentationData(DataConfig(name="voc", root=str(tmp_path)))
    assert data.in_words().endswith("for training, 3 images (as the full set has) for scoring")


class TestRelabelled:
    """Cityscapes with CamVid's classes."""

    @pytest.fixture
    def config(self, tmp_path) -> DataConfig:
        root = write_cityscapes(tmp_path, train=1, val=2)
        return DataConfig(name="cityscapes", root=str(root), relabel="camvid", cache=False)

    def test_raw_ids_become_its_classes(self, config):
        camvid = get_label_table("camvid")
        dataset = config.open("val")
        assert dataset.labels == config.label_table()
        assert (dataset.labels.name, dataset.labels.names) == ("camvid", camvid.names)
        # labelIds of Cityscapes by hand: road, traffic light, terrain, bus, bicycle, ego vehicle
        raw = np.array([[7, 19, 22, 28, 33, 1]], np.uint8)
        ids = dataset.labels.encode(raw, "mask")
        assert ids.tolist() == [[3, 6, 255, 8, 10, 255]]
        # what is exported keeps the ids of the data set: a bus is one of CamVid's cars
        assert dataset.labels.decode(ids).tolist() == [[7, 19, 255, 26, 25, 255]]
        name = dataset.sample_name(1)
        mask = Path(config.root, "gtFine/val", name.split("_")[0], f"{name}_gtFine_labelIds.png")
        expected = dataset.labels.encode(np.asarray(Image.open(mask)), mask)
        np.testing.assert_array_equal(dataset[1].labels, expected)
        np.testing.assert_array_equal(dataset.read_labels(1), expected)
        assert 8 in expected
        assert dataset.read_instances(1) is None

    def test_some_of_them(self, config):
        some = replace(config, classes=["car", "road"])
        data = SegmentationData(some)
        assert data.labels.names == some.open("val").labels.names == ("car", "road")
        raw = np.array([[7, 28, 19]], np.uint8)
        assert data.labels.encode(raw, "mask").tolist() == [[1, 0, 255]]

    @pytest.mark.parametrize(
        ("name", "message"),
        [
            ("camvit", "did you mean 'camvid'"),
            ("voc", "14 classes of .* have no.*: road.*cityscapes as camvid"),
        ],
    )
    def test_refused(self, config, name, message):
        with pytest.raises(BinsegError, match=message):
            replace(config, relabel=name).label_table()
