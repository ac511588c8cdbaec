"""`binseg compare`: networks under one recipe, in one table and one chart."""

from pathlib import Path
from typing import Any

from binseg.compare.config import Comparison, LatencyConfig, named, networks_of
from binseg.data.config import DataConfig
from binseg.lock import locked
from binseg.program.file import OtherLayers
from binseg.training.config import (
    BinarizationConfig,
    DistillationConfig,
    Experiment,
    LossConfig,
    ModelConfig,
    OptimizerConfig,
    TrainerConfig,
)


def compare(
    out: Path,
    networks: dict[str, dict[str, Any] | None],
    data: DataConfig = DataConfig(),  # noqa: B008 - the parser only reads its fields
    model: ModelConfig = ModelConfig(),  # noqa: B008
    optimizer: OptimizerConfig = OptimizerConfig(),  # noqa: B008
    loss: LossConfig = LossConfig(),  # noqa: B008
    binarization: BinarizationConfig = BinarizationConfig(),  # noqa: B008
    distillation: DistillationConfig = DistillationConfig(),  # noqa: B008
    trainer: TrainerConfig = TrainerConfig(),  # noqa: B008
    seeds: list[int] | None = None,
    folds: dict[str, dict[str, Any]] | None = None,
    other_layers: OtherLayers = "fp32",
    latency: LatencyConfig = LatencyConfig(),  # noqa: B008
    reference: str | int | None = None,
    against: str | int | None = None,
    only: list[str | int] | None = None,
    report: bool = False,
) -> int:
    """Train networks under one recipe, pack, score and time them, write one table and one chart.

    `binseg compare --config configs/compare/scenes.yaml --out runs/compare`. Ctrl-C stops; the same
    command goes on: finished networks are kept, the one at hand resumes from its checkpoint. --out
    gets NAME/seedN run folders (with folds NAME/seedN-FOLD), results.json, results.md, results.csv
    and scatter.png.

    Args:
        out: folder, new or that of an earlier call with the same recipe.
        networks: name of a row → the keys that differ from the recipe, e.g.
            {resnete18: {model: {name: resnete18}}}.
        data: the data set.
        model: what all networks share; a key that only some families know belongs into their rows.
        optimizer: the optimizer and its schedule.
        loss: the loss.
        binarization: steps to the binary networks.
        distillation: teacher.
        trainer: how long and on what; its seed is one of --seeds.
        seeds: every network is trained once with each; null: 0.
        folds: name of a fold → the keys that differ in it, e.g. {0006R0: {data: {val_groups:
            [0006R0]}}}: every network is trained once for each fold and seed, and its mIoU is the
            mean over the folds.
        other_layers: how binary networks are packed: fp32, bf16 or int8 for what is not 1 bit.
        latency: how time is measured.
        reference: row that networks without a full-precision twin in the table are compared with.
        against: row that the others' val mIoU is set against, seed by seed, in a column of its own.
        only: rows to train; the others are reported if they are trained.
        report: train nothing; measure and write the table of what is trained.

    Returns:
        0; 1 if a training failed, and the table holds the others.
    """
    import sys

    from rich.console import Console

    from binseg.compare.report import conditions, write_report
    from binseg.compare.run import run_comparison
    from binseg.compare.tables import screen_table
    from binseg.summarize.tables import WIDTH

    recipe = Experiment(data, model, optimizer, loss, binarization, distillation, trainer)
    comparison = Comparison(
        networks=networks_of(recipe, named(networks, "networks")),
        seeds=tuple(seeds or (0,)),
        folds={name: tree or {} for name, tree in named(folds or {}, "folds").items()},
        other_layers=other_layers,
        latency=latency,
        reference=None if reference is None else str(reference),
        against=None if against is None else str(against),
    )
    rows = None if only is None else [str(name) for name in only]
    with locked(out):
        found = run_comparison(comparison, out, only=rows, report=report)
        written = write_report(found, comparison, recipe, out)
    Console(width=WIDTH, highlight=False).print(
        screen_table(found.rows, conditions(comparison)), markup=False
    )
    print(f"wrote {', '.join(path.name for path in written)} into {out}")
    for row in found.rows:
        if row.not_packed is not None:
            print(f"{row.name} is not packed: {row.not_packed}")
    if found.missing:
        print(f"not trained to the end yet: {'; '.join(found.missing)}")
    for fault in found.load.faults:
        print(f"warning: unreliable timings: {fault} meanwhile")
    for name, reason in found.failures.items():
        print(f"failed: {name}: {reason}", file=sys.stderr)
    return 1 if found.failures else 0
