"""The files of a comparison: results.json, results.md, results.csv, scatter.png."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from binseg.atomic import atomic_path
from binseg.bench.machine import describe
from binseg.compare.chart import draw
from binseg.compare.config import Comparison, flat, leaves_of, tree_of
from binseg.compare.rows import Mean, Row
from binseg.compare.run import Compared
from binseg.compare.tables import Conditions, csv_text, markdown
from binseg.evaluation.bootstrap import Interval
from binseg.training.config import Experiment

JSON, MARKDOWN, CSV, CHART = "results.json", "results.md", "results.csv", "scatter.png"
FORMAT = 1


def conditions(comparison: Comparison) -> Conditions:
    """What the table says of itself."""
    latency = comparison.latency
    return Conditions(
        latency.size,
        latency.threads,
        comparison.other_layers,
        latency.int8,
        comparison.reference,
        comparison.against,
        tuple(comparison.folds),
    )


def write_report(
    compared: Compared, comparison: Comparison, recipe: Experiment, out: Path
) -> list[Path]:
    """Write the four files into `out`.

    Args:
        compared: the rows.
        comparison: how they came about.
        recipe: what the networks share.
        out: folder.

    Returns:
        The files.
    """
    about = describe()
    machine, versions = about["machine"], about["versions"]
    epochs = [each.trainer.epochs for each in comparison.networks.values()]
    first, last = min(epochs), max(epochs)
    title = (
        f"{recipe.data.name}, epochs: {first if first == last else f'{first} to {last}'}; "
        f"{machine['processor']}, {about['date'][:10]}, binseg {versions['binseg']} "
        f"({about['commit'] or 'no commit'}), torch {versions['torch']}"
    )
    rows, stated = compared.rows, conditions(comparison)
    differences, intervals = stated.differences(rows), stated.intervals(rows)
    result = {
        "format": FORMAT,
        **about,
        "recipe": tree_of(leaves_of(recipe)),
        "seeds": list(comparison.seeds),
        "folds": {name: tree_of(flat(tree)) for name, tree in comparison.folds.items()},
        "other_layers": comparison.other_layers,
        "latency": asdict(comparison.latency),
        "reference": comparison.reference,
        "against": comparison.against,
        "load": compared.load.to_dict(),
        "rows": [_row(*each) for each in zip(rows, differences, intervals, strict=True)],
        "failures": compared.failures,
        "missing": compared.missing,
    }
    files = {
        JSON: json.dumps(result, indent=1, ensure_ascii=False) + "\n",
        MARKDOWN: f"{title}\n\n{markdown(rows, stated)}",
        CSV: csv_text(rows, stated),
    }
    for name, content in files.items():
        with atomic_path(out / name) as temporary:
            temporary.write_text(content, encoding="utf-8")
    draw(rows, title, out / CHART)
    return [out / name for name in (*files, CHART)]


def _row(row: Row, difference: Mean | None, interval: Interval | None) -> dict[str, Any]:
    means = {
        "trained_miou": row.trained_miou,
        "shipped_miou": row.shipped_miou,
        "difference": difference,
    }
    found = {name: None if mean is None else asdict(mean) for name, mean in means.items()}
    own = {
        "class_iou": row.class_iou,
        "bytes": row.bytes,
        "minutes": row.minutes,
        "difference_interval": None if interval is None else interval._asdict(),
    }
    plain = asdict(row)
    for outcome in plain["outcomes"]:
        del outcome["counts"]  # of every image: megabytes
    return {**plain, **found, **own}
