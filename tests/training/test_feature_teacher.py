"""An encoder as a backbone's teacher in `binseg pretrain`."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from small_pretraining import tiny, write_tree
from torch import Tensor, nn

import binseg
from binseg.data.classification import ClassificationData
from binseg.data.config import DataConfig
from binseg.data.preprocess import Preprocessing
from binseg.errors import BinsegError
from binseg.loaded import save
from binseg.model_file import read_model_file
from binseg.training.classification_losses import feature_distillation
from binseg.training.config import DistillationConfig
from binseg.training.feature_teacher import SIDE, ImageFeatures, features_of
from binseg.training.pretraining import pretrain
from binseg.training.pretraining_config import ClassificationLossConfig

LABELS = DataConfig(name="scenes").label_table()


class Copying(nn.Module):
    """An "encoder" whose last map is the image."""

    out_channels = (3, 3)

    def forward(self, images: Tensor) -> list[Tensor]:
        return [images[:, :, ::2, ::2], images]


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    return write_tree(tmp_path_factory.mktemp("pictures") / "tree")


@pytest.fixture(scope="module")
def encoder_file(tmp_path_factory):
    torch.manual_seed(3)
    path = tmp_path_factory.mktemp("teacher") / "fpn.safetensors"
    network = binseg.create_model("smp_fpn", num_classes=LABELS.num_classes, encoder="resnet18")
    save(path, network, LABELS, Preprocessing())
    return path


def test_feature_distillation_by_hand() -> None:
    teacher = torch.tensor([1.0, 3.0, 5.0, 7.0]).view(2, 1, 1, 2)
    student = torch.zeros(2, 1, 1, 2)
    # mean 4, variance 5: the targets' mean square is 1
    assert feature_distillation(student, teacher).item() == pytest.approx(1, abs=1e-4)
    exact = (teacher - 4) / 5**0.5
    assert feature_distillation(exact, teacher).item() == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("crop", ["resized", "shift"])
def test_kept_maps_are_cut_as_the_images_are(tmp_path, crop) -> None:
    for path in write_tree(tmp_path / "tree").rglob("*.png"):
        # red grows to the right, green downwards
        ramp = np.arange(16, dtype=np.uint8) * 15
        image = np.stack(np.broadcast_arrays(ramp[None], ramp[:, None], np.uint8(0)), axis=2)
        Image.fromarray(image).save(path)
    data = ClassificationData(replace(tiny(tmp_path / "tree").data, crop=crop, padding=2))
    features = ImageFeatures(Copying(), data, torch.device("cpu"), autocast=False)
    loader = data.train_dataloader()
    for epoch in range(2):
        for batch in loader:
            ours = data.preprocessing.normalize(batch["image"])
            theirs = features.cut(batch["index"], epoch, (16, 16))
            inside = slice(4, -4)  # a border mirrors in images and repeats in maps
            difference = (ours - theirs)[:, :2, inside, inside].abs().amax()
            assert difference < 0.3  # a pixel is 15 levels, 0.26


def test_a_run_imitates_an_encoder(tree, encoder_file, tmp_path) -> None:
    plain = replace(tiny(tree, precision="bf16"), loss=ClassificationLossConfig())
    for sees in ("pictures", "crops"):
        teaching = DistillationConfig(encoder_file, weight=10.0, sees=sees)
        taught = pretrain(replace(plain, distillation=teaching), tmp_path / sees)
        names = read_model_file(taught.model).tensors
        assert not any("regressor" in name or "encoder" in name for name in names)
    alone = pretrain(plain, tmp_path / "alone")
    first, second = (
        read_model_file(run.model).tensors["backbone.stem.0.weight"] for run in (taught, alone)
    )
    assert not np.array_equal(first, second)


def test_maps_of_crops_have_the_size_that_is_asked() -> None:
    images = torch.rand(2, 3, 16, 16)
    found = features_of(Copying(), images, (4, 4))
    large = F.interpolate(images, size=(SIDE, SIDE), mode="bilinear", align_corners=False)
    expected = F.interpolate(large, size=(4, 4), mode="bilinear", align_corners=False)
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"loss": ClassificationLossConfig(mixup=0.2)}, "loss.mixup"),
        ({"in_memory": False}, "kept in memory"),
    ],
)
def test_what_an_encoder_cannot_teach(tree, encoder_file, tmp_path, changes, said) -> None:
    run = replace(
        tiny(tree),
        loss=changes.get("loss", ClassificationLossConfig()),
        distillation=DistillationConfig(encoder_file, sees="pictures"),
    )
    if "in_memory" in changes:
        run = replace(run, data=replace(run.data, in_memory=False))
    with pytest.raises(BinsegError, match=said):
        pretrain(run, tmp_path / "run")


def test_other_teachers_are_refused(tree, tmp_path) -> None:
    torch.manual_seed(0)
    own = tmp_path / "own.safetensors"
    network = binseg.create_model("groupnet18", num_classes=LABELS.num_classes, bases=1, width=8)
    save(own, network, LABELS, Preprocessing())
    plain = replace(tiny(tree), loss=ClassificationLossConfig())
    with pytest.raises(BinsegError, match=r"own\.safetensors"):
        pretrain(replace(plain, distillation=DistillationConfig(own)), tmp_path / "a")
    classifier = pretrain(plain, tmp_path / "b").model
    seen_once = DistillationConfig(classifier, sees="pictures")
    with pytest.raises(BinsegError, match=r"distillation\.sees"):
        pretrain(replace(plain, distillation=seen_once), tmp_path / "c")
