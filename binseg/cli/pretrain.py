"""`binseg pretrain`: one classifier into one run folder, for its backbone's sake."""

from pathlib import Path

from binseg.data.classification_config import ClassificationConfig
from binseg.distributed.processes import joined
from binseg.training.config import (
    BinarizationConfig,
    DistillationConfig,
    ModelConfig,
    OptimizerConfig,
    TrainerConfig,
)
from binseg.training.pretraining_config import ClassificationLossConfig, Pretraining


def pretrain(
    out: Path,
    data: ClassificationConfig = ClassificationConfig(),  # noqa: B008 - as in `binseg train`
    model: ModelConfig = ModelConfig(),  # noqa: B008
    optimizer: OptimizerConfig = OptimizerConfig(),  # noqa: B008
    loss: ClassificationLossConfig = ClassificationLossConfig(),  # noqa: B008
    binarization: BinarizationConfig = BinarizationConfig(),  # noqa: B008
    distillation: DistillationConfig = DistillationConfig(),  # noqa: B008
    trainer: TrainerConfig = TrainerConfig(),  # noqa: B008
    resume: bool = False,
) -> int:
    """Pretrain a backbone on labelled images: `binseg pretrain --config FILE --out runs/a`.

    The run folder holds config.yaml, train.log, history.json, curves.png, last.ckpt and
    best.safetensors, which `binseg train --model.backbone_weights` takes. Ctrl-C stops after the
    step at hand; --resume goes on from there.

    Args:
        out: run folder, new or empty unless --resume.
        data: the labelled images.
        model: the backbone and its options; those of heads do not apply.
        optimizer: the optimizer and its schedule.
        loss: label smoothing and mixup.
        binarization: steps to the binary network.
        distillation: teacher.
        trainer: how long and on what; there are no overlays.
        resume: go on with the run in --out.
    """
    # seconds of imports that --help does not need
    from binseg.training.pretraining import pretrain as run

    pretraining = Pretraining(data, model, optimizer, loss, binarization, distillation, trainer)
    with joined(trainer.devices) as processes:
        result = run(pretraining, out, resume=resume)
        if processes.is_first:
            print(
                f"best val top-1 {result.best_top1:.4f} (epoch {result.best_epoch}); start a "
                f"network with `binseg train --model.backbone_weights {result.model}`"
            )
    return 0
