"""The files of a report exist and hold the true figures."""

import dataclasses
import io
import json
import math
import os
from html.parser import HTMLParser

import numpy as np
import pytest
import torch
from grey_images import make_images
from rich.console import Console

from binseg.data.imageio import read_image
from binseg.data.labels import get_label_table
from binseg.evaluation.confusion_picture import confusion_picture, draw_confusion
from binseg.evaluation.evaluate import score
from binseg.evaluation.protocols import Protocol
from binseg.evaluation.report import part_of_benchmark, score_table, write_report
from binseg.evaluation.result import Evaluation
from binseg.evaluation.scores import Scores

HOSTILE = '<script>"x" & $y$</script> [bold]'
NOT_UTF8 = os.fsdecode(b"caf\xe9")


@pytest.fixture
def found():
    rng = np.random.default_rng(1)
    dataset = make_images(*(rng.integers(0, 3, (40, 60)) for _ in range(3)))
    dataset.samples[1] = dataset.samples[1]._replace(name=HOSTILE)

    dataset.samples[0] = dataset.samples[0]._replace(name=NOT_UTF8)

    places = {sample.name: place for place, sample in enumerate(dataset.samples)}

    def predictions(sample):
        ids = sample.labels.copy()
        ids[: 10 * (1 + places[sample.name])] = 0
        return ids

    return score(predictions, dataset, worst=3), dataset


def as_text(evaluation: Evaluation, title: str = "") -> str:
    stream = io.StringIO()
    Console(file=stream, width=80).print(score_table(evaluation, title))
    return stream.getvalue()


def test_table_has_every_figure(found):
    evaluation, _ = found
    text = as_text(evaluation, "a [b] title")
    assert "a [b] title" in text
    scores = evaluation.scores
    for value in (scores.mean_iou, scores.mean_accuracy, scores.pixel_accuracy, scores.iou[1]):
        assert f"{100 * value:.1f}" in text
    assert f"{100 * evaluation.mean_boundary_iou:.1f}" in text
    absent = next(line for line in text.splitlines() if "class 3" in line)
    assert absent.split() == ["class", "3", "–", "–", "–", "0.0"]


def test_caption_says_the_protocol_and_which_classes(found):
    evaluation, _ = found
    assert "VOC" not in as_text(evaluation)
    protocol = Protocol("sliding", window=64, stride=32)
    labels = dataclasses.replace(evaluation.labels, name="voc_animals")
    animals = dataclasses.replace(
        evaluation, labels=labels, about={"protocol": dataclasses.asdict(protocol)}
    )
    text = " ".join(as_text(animals).split())
    assert str(protocol) in text
    assert "VOC animals: 4 of the benchmark's 21 classes" in text
    part = get_label_table("cityscapes").subset(["road", "car"])
    assert "part of cityscapes: 2 of" in str(part_of_benchmark(part))
    assert part_of_benchmark(get_label_table("voc")) is None


def test_instance_iou_has_a_column_where_there_is_one(found):
    evaluation, _ = found
    assert "iIoU" not in as_text(evaluation)
    values = (0.125, math.nan, 0.625, math.nan)
    text = as_text(dataclasses.replace(evaluation, instance_iou=values))
    assert "iIoU %" in text
    assert next(line for line in text.splitlines() if "class 2" in line).split()[-2] == "62.5"
    assert next(line for line in text.splitlines() if "mean" in line).split()[-1] == "37.5"
    saved = dataclasses.replace(evaluation, instance_iou=values).to_dict()["scores"]
    assert saved["mean_instance_iou"] == 0.375
    assert saved["classes"]["class 1"]["instance_iou"] is None


def test_files(found, tmp_path):
    evaluation, dataset = found
    files = write_report(evaluation, dataset, tmp_path, f"model {HOSTILE}")
    assert [file.relative_to(tmp_path).as_posix() for file in files] == [
        "scores.json",
        "confusion.png",
        "worst/index.html",
    ]
    saved = json.loads(files[0].read_text())
    assert saved["scores"]["mean_iou"] == evaluation.scores.mean_iou
    assert saved["scores"]["matrix"] == [list(row) for row in evaluation.scores.matrix]
    assert saved["scores"]["classes"]["class 3"]["iou"] is None
    assert saved["versions"]["torch"]
    assert [image["name"] for image in saved["pictures"]] == [NOT_UTF8, HOSTILE, "image2"]
    assert read_image(files[1]).std() > 0
    assert not list(tmp_path.rglob(".*"))  # no temporary files


def test_page_of_the_worst(found, tmp_path):
    evaluation, dataset = found
    page = write_report(evaluation, dataset, tmp_path, HOSTILE)[-1]
    text = page.read_text()

    class Reader(HTMLParser):
        words = ""
        links: list[str] = []  # noqa: RUF012

        def handle_starttag(self, tag, attributes):
            assert tag != "script"
            self.links += [value for key, value in attributes if key in ("src", "href")]

        def handle_data(self, data):
            self.words += data

    reader = Reader()
    reader.feed(text)
    assert HOSTILE in reader.words
    assert len(reader.links) == 6
    for link in reader.links:
        assert read_image(page.parent / link).ndim == 3
    # image 2 is the worst, image 1 (the hostile one) the next
    assert reader.words.index("image2") < reader.words.index(f"2. {HOSTILE}")
    for kept in evaluation.worst:
        assert f"mIoU {100 * kept.score.mean_iou:.1f} %" in reader.words


def confusion_of(classes: int) -> tuple[Scores, np.ndarray]:
    """Class c is predicted as itself and, for a quarter, as class 1; class 0 is nowhere."""
    names = [f"a class of a long name number {index} $x_" for index in range(classes)]
    matrix = torch.eye(classes, dtype=torch.int64) * 300
    matrix[:, 1] += 100
    matrix[0] = 0
    scores = Scores.of(matrix, names)
    return scores, confusion_picture(scores, "title $")


@pytest.mark.parametrize(("classes", "cell"), [(2, 50), (60, 50), (61, 18), (255, 18)])
def test_confusion_image_of_few_and_many_classes(classes, cell, tmp_path):
    """Cells are where they belong, in their colours; names stand beside them."""
    scores, image = confusion_of(classes)
    assert max(image.shape) < 5000
    grey = (image == (229, 229, 229)).all(axis=2)
    # the row of the class that is nowhere; letters' edges are grey in places, too
    top = np.flatnonzero(grey.sum(axis=1) >= classes * (cell - 1))[0]
    left = np.flatnonzero(grey[top : top + cell - 1].all(axis=0))[0]
    corners = image[top + 2 :: cell, left + 2 :: cell][:classes, :classes].astype(int)
    assert (corners[0] == 229).all()
    darkness = 255 - corners[..., 0]
    others = np.arange(2, classes)
    if classes > 2:
        assert (darkness[others, others] > darkness[others, 1]).all()
        assert (darkness[others, 1] > 40).all()
    names = image[top : top + cell * classes, :left]
    for place in range(classes):
        assert names[place * cell : (place + 1) * cell].min() < 60, f"no name beside row {place}"
    middle = slice(cell + 1, 2 * cell - 2)  # of class 1, predicted as itself
    cells = image[top:, left:][middle, middle]
    has_number = len(np.unique(cells.reshape(-1, 3), axis=0)) > 1
    assert has_number == (classes <= 60)
    draw_confusion(scores, tmp_path / "m.png", "title $")
    assert np.array_equal(read_image(tmp_path / "m.png"), image)
