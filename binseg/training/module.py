"""The Lightning module of segmentation: what one training step and one validation are."""

import math
from pathlib import Path
from typing import Any, ClassVar, cast

import torch
from torch import Tensor, nn

from binseg.data.labels import LabelTable
from binseg.data.module import Batch, SegmentationData
from binseg.data.preprocess import Preprocessing
from binseg.errors import BinsegError
from binseg.evaluation.confusion import ConfusionMatrix, Scores
from binseg.evaluation.upsample import upsampled_argmax
from binseg.loaded import save
from binseg.nn.segmenter import Segmenter
from binseg.training.binary_module import BinaryModule
from binseg.training.config import Experiment
from binseg.training.losses import SegmentationLoss, distillation_loss
from binseg.training.teacher_scores import ImageScores


class SegmentationModule(BinaryModule[Segmenter]):
    """Trains a `Segmenter`; validates with re-estimated BatchNorm statistics in float32.

    Args:
        network: what is trained.
        experiment: the whole configuration.
        labels: the data set's classes.
        preprocessing: how uint8 images become input.
        class_weights: float32 (C,) for the loss, or None.
        teacher: full-precision network with the same classes and input, or None.

    Attributes:
        scores: of the latest validation, over all processes; None before.
    """

    figure_names: ClassVar[dict[str, str]] = {"val_miou": "val mIoU"}

    def __init__(
        self,
        network: Segmenter,
        experiment: Experiment,
        labels: LabelTable,
        preprocessing: Preprocessing,
        *,
        class_weights: Tensor | None = None,
        teacher: nn.Module | None = None,
    ) -> None:
        super().__init__(network, experiment, preprocessing, teacher)
        self.experiment = experiment
        self.labels = labels
        self._forward = self.compiled(network.forward)
        self.loss = SegmentationLoss(experiment.loss, class_weights)
        self.scores: Scores | None = None
        self._image_scores: ImageScores | None = None
        self.matrix = ConfusionMatrix(labels.num_classes)

    # --- training ---

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        images = self.preprocessing.normalize(batch["image"])
        labels = batch["label"]
        logits = self._forward(images)
        loss = self.loss(logits, labels)
        if self._teacher:
            loss = loss + self.experiment.distillation.weight * self._distilled(
                images, logits, labels, batch["name"]
            )
        self.count_loss(loss, batch_idx)
        return loss

    def _distilled(
        self, images: Tensor, logits: Tensor, labels: Tensor, names: list[str]
    ) -> Tensor:
        (teacher,) = self._teacher
        distillation = self.experiment.distillation
        if distillation.sees == "crops":
            with torch.no_grad():
                target = teacher(images)
            return distillation_loss(logits, target, labels, distillation.temperature)
        if self._image_scores is None:
            data = cast(SegmentationData, self.trainer.datamodule)  # type: ignore[attr-defined]
            autocast = self.recipe.trainer.precision == "bf16"
            self._image_scores = ImageScores(teacher, data, self.device, autocast=autocast)
        return self._image_scores.loss(
            logits, labels, names, self.current_epoch, distillation.temperature
        )

    # --- validation ---

    def on_validation_epoch_start(self) -> None:
        self.matrix.reset()
        self.enter_step(self.current_epoch)
        data = cast(SegmentationData, self.trainer.datamodule)  # type: ignore[attr-defined]
        self.reestimate(batch["image"] for batch in data.calibration_batches())

    def validation_step(self, batch: Batch, batch_idx: int) -> dict[str, Any]:
        """Score a batch; "class_maps" are uint8 (H, W), at the labels' resolution."""
        with torch.autocast(self.device.type, enabled=False):
            logits = self.evaluated(self.preprocessing.normalize(batch["image"]))
        maps = []
        for scores, label in zip(logits, batch["label"], strict=True):
            size = (label.shape[0], label.shape[1])
            maps.append(torch.from_numpy(upsampled_argmax(scores, size)))
            self.matrix.update(maps[-1].to(label.device), label)
        return {"class_maps": maps}

    def on_validation_epoch_end(self) -> None:
        self.scores = Scores.of(self.matrix.compute(), self.labels.names)
        if math.isnan(self.scores.mean_iou):
            raise BinsegError("the val split has no labelled pixel; see `binseg data check`")
        self.figures = {
            "val_miou": self.scores.mean_iou,
            "val_pixel_accuracy": self.scores.pixel_accuracy,
        }
        self.log_dict(self.figures)
        for name, iou in zip(self.labels.names, self.scores.iou, strict=True):
            if not math.isnan(iou):  # a class that is not there
                self.log(f"val_iou/{name}", iou)
        if self.average is None:
            self.network.train()

    def write_model(self, path: Path, training: dict[str, Any]) -> None:
        save(
            path,
            self.evaluated,
            self.labels,
            self.preprocessing,
            training={
                "data": self.experiment.data.name,
                **({"start": source} if (source := self.experiment.model.start_name) else {}),
                **training,
            },
        )
