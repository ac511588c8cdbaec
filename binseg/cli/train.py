"""`binseg train`: one experiment into one run folder."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from binseg.cli.switches import is_on, value_of
from binseg.data.config import DataConfig
from binseg.distributed.processes import joined
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


def train_command(
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
    with joined(trainer.devices) as processes:
        result = run(experiment, out, resume=resume)
        if processes.is_first:
            print(
                f"best val mIoU {result.best_miou:.4f} (epoch {result.best_epoch}); "
                f"the network is {result.model}"
            )
    return 0


@contextmanager
def with_config_of_resumed_run(arguments: Sequence[str]) -> Iterator[list[str]]:
    """The arguments with the run's own config.yaml in front, if --resume comes without --config.

    Of several processes, process 0 reads the file, and the others get what it holds: their machine
    may have another disk.
    """
    folder = value_of(arguments, "out")
    own = value_of(arguments, "config")
    if not is_on(arguments, "resume") or own is not None or folder is None:
        yield list(arguments)
        return
    config = Path(folder) / "config.yaml"
    with joined() as processes:
        text = processes.decided("config", lambda: _config_text(config))
        if processes.is_first:
            yield ["--config", str(config), *arguments]
            return
        with TemporaryDirectory(prefix="binseg-") as temporary:
            copy = Path(temporary) / config.name
            copy.write_text(text, encoding="utf-8")
            yield ["--config", str(copy), *arguments]


def _config_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise BinsegError(f"{path}: there is no run to resume; check --out") from error
    except (OSError, UnicodeDecodeError) as error:
        raise BinsegError(
            f"{path}: cannot be read ({type(error).__name__}); train again into another --out"
        ) from error
