"""The table of classes that a run was begun with, beside the one it is resumed with."""

import json

import pytest

from binseg.data.labels import LabelTable
from binseg.data.labels_yaml import read_labels_yaml
from binseg.data.preprocess import Preprocessing
from binseg.errors import BinsegError
from binseg.loaded import save
from binseg.nn.segmenter import create_model
from binseg.training.checkpoints import BEST
from binseg.training.classes import CLASSES, check_classes, class_table, write_classes

BEFORE = LabelTable(
    "mine", ("road", "car", "道路"), ((0, 0, 0), (1, 1, 1), (2, 2, 2)), {0: 0, 7: 1, 8: 2, 255: 255}
)


def table(names: tuple[str, ...], ids: dict[int, int]) -> dict:
    palette = tuple((place, 9, 9) for place in range(len(names)))
    return LabelTable("renamed", names, palette, ids).to_dict()


@pytest.mark.parametrize(
    ("now", "message"),
    [
        (table(("car", "road", "道路"), {7: 0, 0: 1, 8: 2}), "class 0 was 'road' and is 'car'"),
        (table(("road", "car"), {0: 0, 7: 1}), "there were 3 classes and are 2"),
        (table(("road", "van", "道路"), {0: 0, 7: 1, 8: 2}), "class 1 was 'car' and is 'van'"),
        (table(BEFORE.names, {7: 0, 0: 1, 8: 2, 255: 255}), "id 0 was 'road' and is 'car'; id 7"),
        (table(BEFORE.names, {0: 0, 7: 1, 8: 255, 255: 255}), "id 8 was '道路' and is ignored"),
        (table(BEFORE.names, {0: 0, 7: 1, 8: 2}), "id 255 was ignored and is unknown"),
    ],
)
def test_what_would_go_on_under_another_name_is_refused(tmp_path, now, message):
    write_classes(BEFORE.to_dict(), tmp_path)
    with pytest.raises(BinsegError, match=message) as fault:
        check_classes(now, tmp_path, "data/labels.yaml")
    assert str(fault.value).startswith("data/labels.yaml: the classes have changed")


def test_colours_and_new_ids_are_harmless(tmp_path):
    write_classes(BEFORE.to_dict(), tmp_path)
    assert check_classes(table(BEFORE.names, dict(BEFORE.raw_to_train)), tmp_path, "x") == []
    more = {**BEFORE.raw_to_train, 100: 1, 9: 255}
    assert check_classes(table(BEFORE.names, more), tmp_path, "x") == [
        "x: new ids of masks: 9, 100"
    ]


def test_a_changed_pipeline_is_refused(tmp_path):
    begun = BEFORE.to_dict() | {"pipeline": "transform: 1"}
    write_classes(begun, tmp_path)
    assert check_classes(dict(begun), tmp_path, "x") == []
    with pytest.raises(BinsegError, match=r"data\.augment\.extra: the file has changed"):
        check_classes(begun | {"pipeline": "transform: 2"}, tmp_path, "x")


def test_a_run_that_wrote_no_table_is_held_against_its_best_network(tmp_path):
    assert check_classes(BEFORE.to_dict(), tmp_path, "x") == []
    network = create_model("groupnet18", num_classes=3, bases=1, width=8)
    save(tmp_path / BEST, network, BEFORE, Preprocessing())
    assert check_classes(BEFORE.to_dict(), tmp_path, "x") == []
    with pytest.raises(BinsegError, match="class 0 was 'road'"):
        check_classes(table(("car", "road", "道路"), {}), tmp_path, "x")


def test_classifiers_have_names_alone(tmp_path):
    write_classes({"names": ["cat", "dog"]}, tmp_path)
    assert check_classes({"names": ["cat", "dog"]}, tmp_path, "x") == []
    with pytest.raises(BinsegError, match="class 1 was 'dog' and is 'cow'"):
        check_classes({"names": ["cat", "cow"]}, tmp_path, "x")


@pytest.mark.parametrize("text", ["{", "[]", json.dumps({"names": "road"})])
def test_a_damaged_table_is_named(tmp_path, text):
    (tmp_path / CLASSES).write_text(text)
    with pytest.raises(BinsegError, match=rf"{CLASSES}: cannot be read"):
        check_classes(BEFORE.to_dict(), tmp_path, "x")


def test_colours_of_masks_that_are_another_class_by_now_are_refused(tmp_path):
    def colored(first: str, second: str) -> LabelTable:
        (tmp_path / "labels.yaml").write_text(
            f"classes: [{{name: a, color: '{first}'}}, {{name: b, color: '{second}'}}]"
        )
        return read_labels_yaml(tmp_path / "labels.yaml")

    write_classes(class_table(colored("#000000", "#0a0b0c")), tmp_path)
    assert check_classes(class_table(colored("#ff0000", "#0a0b0c")), tmp_path, "x") == []
    with pytest.raises(BinsegError, match="colour #000000 was 'a' and is 'b'; colour #0a0b0c"):
        check_classes(class_table(colored("#0a0b0c", "#000000")), tmp_path, "x")
