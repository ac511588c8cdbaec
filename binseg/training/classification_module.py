"""The Lightning module of classification: what one training step and one validation are."""

from pathlib import Path
from typing import Any, ClassVar, cast

import torch
from torch import Tensor, nn

from binseg.data.classification import ClassificationData, LabelledBatch
from binseg.data.preprocess import Preprocessing
from binseg.nn.backbone_file import save_classifier
from binseg.nn.classifier import Classifier
from binseg.training.binary_module import BinaryModule
from binseg.training.classification_losses import (
    distillation,
    feature_distillation,
    mix,
    soft_cross_entropy,
    soft_targets,
    topk_hits,
)
from binseg.training.feature_teacher import ImageFeatures, features_of
from binseg.training.pretraining_config import Pretraining


class ClassificationModule(BinaryModule[Classifier]):
    """Trains a `Classifier`; validates with re-estimated BatchNorm statistics.

    Args:
        network: what is trained.
        pretraining: the whole configuration.
        classes: names by class id.
        preprocessing: how uint8 images become input.
        teacher: full-precision classifier with the same classes and input, whose scores are learnt;
            or an encoder of segmentation-models-pytorch, whose last map is imitated; or None.

    Attributes:
        regressor: from the network's last map to an encoder's channels; None without encoder.
        hits: of the latest validation on this process: top-1, top-5 and images, int64 (3,).
    """

    figure_names: ClassVar[dict[str, str]] = {"val_top1": "val top-1", "val_top5": "val top-5"}
    hits: Tensor

    def __init__(
        self,
        network: Classifier,
        pretraining: Pretraining,
        classes: list[str],
        preprocessing: Preprocessing,
        *,
        teacher: nn.Module | None = None,
    ) -> None:
        super().__init__(network, pretraining, preprocessing, teacher)
        self.pretraining = pretraining
        self.regressor: nn.Conv2d | None = None
        self._image_features: ImageFeatures | None = None
        if teacher is not None and not isinstance(teacher, Classifier):
            channels = cast(list[int], teacher.out_channels)[-1]
            self.regressor = nn.Conv2d(network.fc.in_features, channels, 1)
        self.classes = classes
        self._features = self.compiled(network.features)
        self.register_buffer("hits", torch.zeros(3, dtype=torch.int64), persistent=False)

    # --- training ---

    @property
    def trained(self) -> nn.Module:
        if self.regressor is None:
            return self.network
        return nn.ModuleDict({"network": self.network, "regressor": self.regressor})

    def training_step(self, batch: LabelledBatch, batch_idx: int) -> Tensor:
        config = self.pretraining
        targets = soft_targets(batch["label"], len(self.classes), config.loss.label_smoothing)
        images = self.preprocessing.normalize(batch["image"])
        images, targets = mix(images, targets, config.loss.mixup)
        features = self._features(images)
        logits = self.network.classify(features)
        loss = soft_cross_entropy(logits, targets)
        for teacher in self._teacher:
            if self.regressor is None:
                with torch.no_grad():
                    theirs = teacher(images)
                term = distillation(logits, theirs, config.distillation.temperature)
            else:
                size = (features.shape[2], features.shape[3])
                theirs = self._imitated(teacher, batch, images, size).to(features.device)
                term = feature_distillation(self.regressor(features), theirs)
            loss = loss + config.distillation.weight * term
        self.count_loss(loss, batch_idx)
        return loss

    def _imitated(
        self, encoder: nn.Module, batch: LabelledBatch, images: Tensor, size: tuple[int, int]
    ) -> Tensor:
        if self.pretraining.distillation.sees == "crops":
            return features_of(encoder, images, size)
        if self._image_features is None:
            data = cast(ClassificationData, self.trainer.datamodule)  # type: ignore[attr-defined]
            autocast = self.pretraining.trainer.precision == "bf16"
            self._image_features = ImageFeatures(encoder, data, self.device, autocast=autocast)
        return self._image_features.cut(batch["index"], self.current_epoch, size)

    # --- validation ---

    def on_validation_epoch_start(self) -> None:
        self.hits.zero_()
        self.enter_step(self.current_epoch)
        data = cast(ClassificationData, self.trainer.datamodule)  # type: ignore[attr-defined]
        self.reestimate(batch["image"] for batch in data.calibration_batches())

    def validation_step(self, batch: LabelledBatch, batch_idx: int) -> None:
        with torch.autocast(self.device.type, enabled=False):
            logits = self.evaluated(self.preprocessing.normalize(batch["image"]))
        labels = batch["label"]
        self.hits += torch.stack(
            [
                topk_hits(logits, labels, 1),
                topk_hits(logits, labels, 5),
                torch.tensor(len(labels), device=labels.device),
            ]
        )

    def on_validation_epoch_end(self) -> None:
        first, fifth, count = cast(
            Tensor, self.trainer.strategy.reduce(self.hits, reduce_op="sum")
        ).tolist()
        self.figures = {"val_top1": first / count, "val_top5": fifth / count}
        self.log_dict(self.figures)
        if self.average is None:
            self.network.train()

    def write_model(self, path: Path, training: dict[str, Any]) -> None:
        save_classifier(
            path,
            self.evaluated,
            self.classes,
            self.preprocessing,
            training={"data": self.pretraining.data.name, **self.figures, **training},
        )
