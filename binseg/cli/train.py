"""`binseg train`: one experiment into one run folder."""

import os
from collections.abc import Sequence
from pathlib import Path

from binseg.data.config import DataConfig
from binseg.errors import BinsegError
from binseg.training.config import (
    BinarizationConfig,
    DistillationConfig,
    Experiment,
    LossConfig,
    ModelConfig,
    OptimizerConfig,
    TrainerConfig,
)


def train(
    out: Path,
    data: DataConfig = DataConfig(),  # noqa: B008 - the parser only reads its fields
    model: ModelConfig = ModelConfig(),  # noqa: B008
    optimizer: OptimizerConfig = OptimizerConfig(),  # noqa: B008
    loss: LossConfig = LossConfig(),  # noqa: B008
    binarization: BinarizationConfig = BinarizationConfig(),  # noqa: B008
    distillation: DistillationConfig = DistillationConfig(),  # noqa: B008
    trainer: TrainerConfig = TrainerConfig(),  # noqa: B008
    resume: bool = False,
) -> int:
    """Train a network: `binseg train --config configs/camvid/groupnet18_bpac.yaml --out runs/a`.

    The run folder holds config.yaml, train.log, history.json, curves.png, overlays/, last.ckpt and
    best.safetensors. Ctrl-C stops after the step at hand; --resume goes on from there.

    Args:
        out: run folder, new or empty unless --resume.
        data: the data set.
        model: the network.
        optimizer: the optimizer and its schedule.
        loss: the loss.
        binarization: steps to the binary network.
        distillation: teacher.
        trainer: how long and on what.
        resume: go on with the run in --out.
    """
    # seconds of imports that --help does not need
    from binseg.training.run import train as run

    experiment = Experiment(data, model, optimizer, loss, binarization, distillation, trainer)
    result = run(experiment, out, resume=resume)
    if os.environ.get("RANK", "0") == "0":
        print(
            f"best val mIoU {result.best_miou:.4f} (epoch {result.best_epoch}); "
            f"the network is {result.model}"
        )
    return 0


def with_config_of_resumed_run(arguments: Sequence[str]) -> list[str]:
    """The arguments with the run's own config.yaml in front, if --resume comes without --config."""
    if "--resume" not in arguments or "--config" in arguments or "--out" not in arguments[:-1]:
        return list(arguments)
    config = Path(arguments[list(arguments).index("--out") + 1]) / "config.yaml"
    if not config.exists():
        raise BinsegError(f"{config}: there is no run to resume; check --out")
    return ["--config", str(config), *arguments]
