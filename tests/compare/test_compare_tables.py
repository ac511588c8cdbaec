"""Figures, fronts and tables of a comparison, beside numbers worked out by hand."""

import csv
import io
import math
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from binseg.compare.chart import _best_place, _covered, draw
from binseg.compare.rows import Mean, Outcome, Row, pareto_front
from binseg.compare.tables import Conditions, csv_text, markdown, screen_table
from binseg.evaluation.bootstrap import paired_difference

CONDITIONS = Conditions((33, 47), 1, "int8", False, "twin")


def outcome(seed=0, trained=0.5, epoch=7, minutes=1.5, shipped=0.49, size=1_250_000, **classes):
    return Outcome(seed, trained, epoch, minutes, shipped, size, classes)


def row(name="net", **changes) -> Row:
    figures = {
        "name": name,
        "model": {"name": "groupnet18", "bases": 2},
        "binary": True,
        "outcomes": (outcome(),),
        "milliseconds": 12.34,
        "rounds": (12.34, 13.0),
        "baseline": "twin",
        "faster": 3.21,
        "int8_milliseconds": None,
        "faster_than_int8": None,
        "binary_parameters": 2_000_000,
        "real_parameters": 345_678,
        "binary_macs": 6_400_000_000,
        "real_macs": 250_000_000,
        "not_packed": None,
    }
    return Row(**{**figures, **changes})


def test_mean_and_deviation_by_hand():
    assert Mean.of([]) is None
    assert Mean.of([0.25]) == Mean(0.25, None, 1)
    found = Mean.of([0.1, 0.2, 0.6])
    assert found.value == pytest.approx(0.3)
    # deviations −0.2, −0.1, 0.3: squares 0.04 + 0.01 + 0.09, over n − 1 = 2
    assert found.deviation == pytest.approx(math.sqrt(0.07))
    assert str(found) == "0.300 ± 0.265 (3)"
    assert str(Mean(0.25, None, 1)) == "0.250"


def test_figures_over_seeds_by_hand():
    outcomes = (
        outcome(0, 0.5, 7, 1.5, 0.48, 1_000),
        outcome(3, 0.6, 9, 2.5, None, None),
        outcome(5, 0.4, 9, 3.5, 0.44, 1_002),
    )
    found = row(outcomes=outcomes)
    assert found.trained_miou == Mean(pytest.approx(0.5), pytest.approx(0.1), 3)
    assert found.shipped_miou == Mean(pytest.approx(0.46), pytest.approx(0.0282842712), 2)
    assert found.minutes == pytest.approx(2.5)
    assert found.bytes == 1_000
    assert found.miou == pytest.approx(0.46)
    assert row(outcomes=outcomes[1:2]).miou == 0.6  # nothing packed: the trained one's
    assert found.operations == 250_000_000 + 100_000_000


def test_pareto_front_by_hand():
    points = [(3, 0.5), (1, 0.2), (2, 0.5), (4, 0.4), (5, 0.6), (1, 0.1), (5, 0.6)]
    assert pareto_front(points) == [1, 2, 4]
    assert pareto_front([]) == []
    assert pareto_front([(2.0, 0.0)]) == [0]


@pytest.mark.parametrize("seed", range(5))
def test_pareto_front_is_what_nothing_beats(seed):
    generator = np.random.default_rng(seed)
    points = [tuple(point) for point in generator.integers(0, 9, (31, 2))]
    best = {
        (x, y)
        for x, y in points
        if not any(a <= x and b >= y and (a, b) != (x, y) for a, b in points)
    }
    front = [points[index] for index in pareto_front(points)]
    assert set(front) == best
    assert len(front) == len(best)
    assert front == sorted(front)


def test_markdown_by_hand():
    rows = [
        row(),
        row("twin", binary=False, baseline=None, faster=None, binary_macs=0, binary_parameters=0),
        row("own", baseline="own_twin"),
        row("loose", milliseconds=None, faster=None, not_packed="no rule",
            outcomes=(outcome(0, 0.5, 7, 1.5, None, None),)),
    ]  # fmt: skip
    lines = markdown(rows, CONDITIONS).splitlines()
    assert lines[1] == "|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|"
    assert lines[2] == "| net | 0.500 | 0.490 | 12.3 | 3.2* | 1.25 | 6.4 | 0.25 | 2.35 M | 1.5 |"
    assert lines[3] == "| twin | 0.500 | 0.490 | 12.3 |  | 1.25 |  | 0.25 | 346 k | 1.5 |"
    assert "| 3.2 |" in lines[4]
    assert lines[5].startswith("| loose | 0.500 | not packed |  |  |  | 6.4 |")
    assert lines[0].count("|") == lines[1].count("|") == lines[2].count("|")
    text = "\n".join(lines)
    assert "33 × 47" in text
    assert "non-binary layers in int8" in text
    assert "with \\*: than twin" in text


def test_differences_are_taken_seed_by_seed():
    full = row("full", outcomes=(outcome(0, shipped=0.50), outcome(1, shipped=0.40)))
    # 0.52 − 0.50 and 0.44 − 0.40; seed 7 is the row's own, and seed 2 could not be packed
    less = row("less", outcomes=(outcome(7, shipped=0.9), outcome(1, shipped=0.44),
                                 outcome(0, shipped=0.52), outcome(2, shipped=None)))  # fmt: skip
    assert less.difference(full) == Mean(
        pytest.approx(0.03), pytest.approx(math.sqrt(2 * 0.01**2)), 2
    )
    assert full.difference(row(outcomes=(outcome(8),))) is None
    conditions = replace(CONDITIONS, against="full")
    rows = [less, full, row("other", outcomes=(outcome(1, shipped=0.37),))]
    assert conditions.differences(rows)[1] is None
    lines = markdown(rows, conditions).splitlines()
    assert "| shipped | − full | ms |" in lines[0]
    assert "| +0.030 ± 0.014 (2) | 12.3 |" in lines[2]
    assert "| 0.450 ± 0.071 (2) |  | 12.3 |" in lines[3]
    assert "| 0.370 | -0.030 | 12.3 |" in lines[4]
    assert any("less that of full" in line for line in lines)
    found = list(csv.DictReader(io.StringIO(csv_text(rows, conditions))))
    assert [each["difference"] for each in found[1:]] == ["", str(0.37 - 0.40)]
    assert float(found[0]["difference_deviation"]) == pytest.approx(0.0141421356)
    assert "−" not in lines[0].replace("− full", "")
    assert "−" not in markdown(rows, CONDITIONS)
    assert conditions.differences(rows[:1]) == [None]  # the row itself is not trained yet


def with_counts(seed: int, right: np.ndarray) -> Outcome:
    """An outcome of images of one class and 100 pixels each, of which `right` are right."""
    counts = np.stack([right, np.full_like(right, 100), right], axis=1)
    return replace(outcome(seed, shipped=right.mean() / 100), counts=counts[..., None])


def test_differences_have_intervals_over_the_images_of_common_seeds():
    rng = np.random.default_rng(0)
    draws = rng.integers(20, 90, (3, 40))
    net = row("net", outcomes=(with_counts(0, draws[0]), with_counts(5, draws[2])))
    full = row("full", outcomes=(with_counts(0, draws[1]), with_counts(4, draws[2])))
    first, second = (each.outcomes[0].counts for each in (net, full))
    expected = paired_difference([[first]], [[second]]).mean_iou
    assert net.interval(full) == expected
    assert expected.low < expected.value < expected.high
    # no common seed; other images; too few of them
    assert net.interval(row("x", outcomes=(with_counts(9, draws[0]),))) is None
    assert net.interval(row("x", outcomes=(with_counts(0, draws[0][:30]),))) is None
    few = row("x", outcomes=(with_counts(0, draws[0][:10]),))
    assert few.interval(few) is None
    conditions = replace(CONDITIONS, against="full")
    lines = markdown([net, full], conditions).splitlines()
    assert "| − full | 95 % | ms |" in lines[0]
    assert f"| {expected.low:+.3f} to {expected.high:+.3f} | 12.3 |" in lines[2]
    assert "95 %" not in markdown([row("net"), row("full")], conditions).splitlines()[0]
    found = next(csv.DictReader(io.StringIO(csv_text([net, full], conditions))))
    assert (float(found["difference_low"]), float(found["difference_high"])) == expected[1:]


def test_means_are_over_folds_and_then_over_seeds():
    def in_fold(seed: int, fold: str, shipped: float | None) -> Outcome:
        return replace(outcome(seed, trained=0.5, shipped=shipped), fold=fold)

    net = row("net", outcomes=(
        in_fold(0, "east", 0.2), in_fold(0, "west", 0.6), in_fold(1, "east", 0.4),
        in_fold(1, "west", 0.6), in_fold(2, "east", 0.9), in_fold(3, "east", 0.1),
        in_fold(3, "west", None),
    ))  # fmt: skip
    # seed 2 lacks a fold, seed 3 could not be packed in one
    assert net.shipped_miou == Mean(pytest.approx(0.45), pytest.approx(math.sqrt(2 * 0.05**2)), 2)
    assert net.of_fold("east") == Mean.of([0.2, 0.4, 0.9, 0.1])
    assert net.of_fold("north") is None
    other = row("other", outcomes=(in_fold(1, "east", 0.3), in_fold(1, "west", 0.3)))
    assert net.difference(other) == Mean(pytest.approx(0.2), None, 1)
    assert net.difference(row("x", outcomes=(outcome(1, shipped=0.3),))) is None
    conditions = replace(CONDITIONS, folds=("east", "west"), against="other")
    text = markdown([net, other], conditions)
    assert "- mIoU: means over the folds east, west" in text
    lines = text.splitlines()
    place = lines.index("| network | east | west |")
    assert lines[place + 3] == "| other | 0.300 | 0.300 |"
    first, second = csv.DictReader(io.StringIO(csv_text([net, other], conditions)))
    assert (second["fold east"], second["seeds"], first["seeds"]) == ("0.3", "1", "3")


def test_intervals_are_of_the_mean_over_folds():
    rng = np.random.default_rng(0)
    draws = rng.integers(20, 90, (2, 2, 40))
    sides = [
        row(name, outcomes=tuple(
            replace(with_counts(0, right), fold=fold)
            for fold, right in zip(("east", "west"), own, strict=True)
        ))
        for name, own in zip(("net", "full"), draws, strict=True)
    ]  # fmt: skip
    counts = [[[each.counts] for each in side.outcomes] for side in sides]
    expected = paired_difference(*counts).mean_iou
    assert sides[0].interval(sides[1]) == expected
    value = (draws[0].mean(axis=1) - draws[1].mean(axis=1)).mean() / 100
    assert expected.value == pytest.approx(value)


def test_int8_has_columns_where_it_was_measured():
    scored = replace(outcome(), int8_miou=0.478)
    twin = row(
        "twin",
        binary=False,
        baseline=None,
        faster=None,
        int8_milliseconds=6.06,
        outcomes=(scored,),
    )
    rows = [row(faster_than_int8=1.57), twin]
    conditions = replace(CONDITIONS, int8=True)
    lines = markdown(rows, conditions).splitlines()
    assert "| ms | × faster | int8 mIoU | int8 ms | × int8 | MB |" in lines[0]
    assert "| 12.3 | 3.2* |  |  | 1.6* | 1.25 |" in lines[2]
    assert "| 12.3 |  | 0.478 | 6.1 |  | 1.25 |" in lines[3]
    assert "by OpenVINO" in lines[-1]
    found = list(csv.DictReader(io.StringIO(csv_text(rows, CONDITIONS))))
    assert [each["int8_miou"] for each in found] == ["", "0.478"]
    assert [each["int8_milliseconds"] for each in found] == ["", "6.06"]
    assert [each["faster_than_int8"] for each in found] == ["1.57", ""]


def test_classes_by_hand():
    seeds = (outcome(sky=0.5, car=0.25, bird=None), outcome(1, sky=0.75, car=None, bird=None))
    rows = [row(outcomes=seeds), row("loose", outcomes=(outcome(shipped=None, size=None),))]
    assert rows[0].class_iou == {"sky": 0.625, "car": 0.25, "bird": None}
    lines = markdown(rows, CONDITIONS).splitlines()
    assert lines[-3:] == ["| network | sky | car | bird |", "|---|---:|---:|---:|",
                          "| net | 62.5 | 25.0 |  |"]  # fmt: skip
    first, second = csv.DictReader(io.StringIO(csv_text(rows, CONDITIONS)))
    assert (first["iou sky"], first["iou bird"], second["iou sky"]) == ("0.625", "", "")
    assert "IoU of each class" not in markdown([row()], CONDITIONS)


def test_csv_keeps_what_the_table_rounds():
    third = outcome(1, 1 / 3, 7, 1.5, 0.49, 1_250_000)
    text = csv_text(
        [row(outcomes=(third, replace(third, seed=2))), row("loose", not_packed="a, b\nc")],
        CONDITIONS,
    )
    first, second = csv.DictReader(io.StringIO(text))
    assert float(first["trained_miou"]) == 1 / 3
    assert float(first["trained_deviation"]) == 0
    assert (first["network"], first["seeds"], first["binary"]) == ("net", "2", "1")
    assert (first["binary_macs"], first["bytes"]) == ("6400000000", "1250000")
    assert second["trained_deviation"] == ""
    assert second["not_packed"] == "a, b\nc"


def test_the_screen_table_fits_100_columns():
    from rich.console import Console

    long = tuple(outcome(seed, 0.5, 7, 99.5, 0.49, 12_250_000) for seed in range(10))
    console = Console(width=100, record=True, file=io.StringIO())
    console.print(screen_table([row("binarydensenet28_twin", outcomes=long)], CONDITIONS))
    text = console.export_text()
    assert "0.500 ± 0.000 (10)" in text
    assert max(map(len, text.splitlines())) <= 100


@pytest.mark.parametrize("int8", [None, 123.45])
def test_more_columns_are_folded_to_fit(int8):
    from rich.console import Console

    long = tuple(outcome(seed, 0.5, 7, 99.5, 0.49, 12_250_000) for seed in range(10))
    rows = [row(name, outcomes=long, int8_milliseconds=int8, milliseconds=123.45, faster=12.3)
            for name in ("pretraining_off", "full")]  # fmt: skip
    console = Console(width=100, record=True, file=io.StringIO())
    console.print(screen_table(rows, replace(CONDITIONS, against="full")))
    lines = console.export_text().splitlines()
    first = next(index for index, line in enumerate(lines) if "pretraining_off" in line)
    assert lines[first].split()[1:5] == ["0.500", "0.490", "+0.000", "123.5"]
    assert lines[first].rstrip().endswith("12.25" if int8 else "99.5")
    assert lines[first + 1].split() == ["±", "0.000", "(10)"] * 3
    assert max(map(len, lines)) <= 100


def test_labels_make_way_for_each_other():
    frame = (0.0, 0.0, 400.0, 300.0)
    taken = []
    for _ in range(12):  # twelve points on one spot
        box = _best_place((200.0, 150.0), (60.0, 10.0), taken, frame)
        assert not any(_covered(box, other) for other in taken)
        assert _covered(box, frame) == pytest.approx(600)
        taken.append(box)
    inside = _best_place((398.0, 150.0), (60.0, 10.0), [], frame)
    assert inside[2] <= 400


def test_chart_of_many_and_of_none(tmp_path):
    many = [
        row(f"net{index}", binary=bool(index % 3), milliseconds=10.0 * (index + 1))
        for index in range(17)
    ]
    loose = row("loose", milliseconds=None, outcomes=(outcome(0, 0.5, 7, 1.5, None, None),))
    for name, rows in {"many": [*many, loose], "none": []}.items():
        draw(rows, "title", tmp_path / f"{name}.png")
        with Image.open(tmp_path / f"{name}.png") as image:
            assert min(image.size) > 500
