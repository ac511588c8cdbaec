"""Label tables: built in, from YAML, and from files of unknown origin."""

import json
from pathlib import Path

import numpy as np
import pytest

from binseg.data.labels import IGNORE, LABEL_TABLES, LabelTable, get_label_table
from binseg.data.labels_yaml import read_labels_yaml
from binseg.errors import BinsegError


@pytest.mark.parametrize("name", sorted(LABEL_TABLES))
def test_built_in_tables_are_whole(name: str) -> None:
    table = get_label_table(name)
    assert len(table.names) == len(table.palette) == table.num_classes
    assert len(set(table.palette)) == table.num_classes, "two classes look the same"
    reached = set(table.raw_to_train.values()) - {IGNORE}
    assert reached == set(range(table.num_classes))
    assert table.raw_to_train[255] == IGNORE
    again = LabelTable.from_dict(json.loads(json.dumps(table.to_dict())))
    assert again == table


def test_camvid_void_is_ignored() -> None:
    raw = np.arange(12, dtype=np.uint8).reshape(3, 4)
    train = get_label_table("camvid").encode(raw, "mask.png")
    assert train.dtype == np.uint8
    assert train.ravel().tolist() == [*range(11), 255]


def test_voc_animals_keeps_seven_classes() -> None:
    table = get_label_table("voc_animals")
    assert table.names == ("background", "cat", "cow", "dog", "horse", "sheep", "person")
    raw = np.array([[0, 8, 10, 12, 13, 17, 15, 1, 20, 255]], np.uint8)
    assert table.encode(raw, "m").tolist() == [[0, 1, 2, 3, 4, 5, 6, 255, 255, 255]]


def test_tables_agree_with_cityscapes_scripts() -> None:
    labels = pytest.importorskip("cityscapesscripts.helpers.labels").labels
    table = get_label_table("cityscapes")
    for label in labels:
        if label.id >= 0:
            assert table.raw_to_train[label.id] == label.trainId
            if label.trainId != 255:
                assert table.names[label.trainId] == label.name
                assert table.palette[label.trainId] == label.color


def test_voc_palette_is_the_devkits() -> None:
    palette = get_label_table("voc").palette
    assert palette[1] == (128, 0, 0)
    assert palette[15] == (192, 128, 128)  # person
    assert palette[20] == (0, 64, 128)  # tvmonitor


@pytest.mark.parametrize(
    ("raw", "ids"),
    [
        (np.array([[0, 12]], np.uint8), "12"),
        (np.array([[0, 4000]], np.uint16), "4000"),
        (np.array([[0, -1]], np.int32), "-1"),
        (np.array([[70000, 0]], np.int64), "70000"),
    ],
)
def test_unknown_ids_name_file_and_ids(raw: np.ndarray, ids: str) -> None:
    with pytest.raises(BinsegError) as caught:
        get_label_table("camvid").encode(raw, Path("some/mask.png"))
    message = str(caught.value)
    assert message.startswith("some/mask.png")
    assert ids in message
    assert "labels.yaml" in message
    assert "\n" not in message


def test_unknown_table_gives_the_nearest() -> None:
    with pytest.raises(BinsegError, match="did you mean 'camvid'"):
        get_label_table("canvid")


@pytest.mark.parametrize(
    "change",
    [
        {"names": "abc"},
        {"names": [1, 2]},
        {"names": ["a", "a"]},
        {"names": []},
        {"palette": [[0, 0, 0]]},
        {"palette": [[0, 0, 0], [0, 0, 256]]},
        {"palette": [[0, 0, 0], [0, 0, "x"]]},
        {"raw_to_train": {"0": 2}},
        {"raw_to_train": {"0": -1}},
        {"raw_to_train": {"-3": 1}},
        {"raw_to_train": {"x": 1}},
        {"raw_to_train": [0, 1]},
        {"name": 5},
        {"palette": None},
    ],
)
def test_tampered_dict_is_refused(change: dict) -> None:
    good = {
        "name": "t",
        "names": ["a", "b"],
        "palette": [[0, 0, 0], [9, 9, 9]],
        "raw_to_train": {"0": 0, "1": 1},
    }
    LabelTable.from_dict(good)
    with pytest.raises(BinsegError):
        LabelTable.from_dict({**good, **change})
    for key in good:
        with pytest.raises(BinsegError, match=key):
            LabelTable.from_dict({k: v for k, v in good.items() if k != key})
    with pytest.raises(BinsegError):
        LabelTable.from_dict(None)


def test_yaml_with_everything(tmp_path: Path) -> None:
    path = tmp_path / "labels.yaml"
    path.write_text(
        "name: streets\n"
        "classes:\n"
        "  - {name: road, color: [128, 64, 128], id: 7}\n"
        "  - {name: car, color: '#00008e', id: [26, 27]}\n"
        "  - person\n"
        "ignore: [0, 255]\n"
    )
    table = read_labels_yaml(path)
    assert (table.name, table.names) == ("streets", ("road", "car", "person"))
    assert table.palette[:2] == ((128, 64, 128), (0, 0, 142))
    assert dict(table.raw_to_train) == {7: 0, 26: 1, 27: 1, 2: 2, 0: 255, 255: 255}


def test_short_yaml(tmp_path: Path) -> None:
    folder = tmp_path / "meadow"
    folder.mkdir()
    (folder / "labels.yaml").write_text("classes: [grass, cow]\n")
    table = read_labels_yaml(folder / "labels.yaml")
    assert table.name == "meadow"
    assert dict(table.raw_to_train) == {0: 0, 1: 1, 255: 255}
    assert table.palette[0] != table.palette[1]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[", "not valid YAML"),
        ("hello", "classes"),
        ("classes: []", "1 to 255"),
        ("classes: [a, a]", "occur more than once"),
        ("classes: [a, b]\nignored: [3]", "unknown key 'ignored'"),
        ("classes: [{name: a, colour: [1, 2, 3]}]", "unknown key 'colour'"),
        ("classes: [{name: a, color: [1, 2]}]", "colour"),
        ("classes: [{name: a, color: [1, 2, 300]}]", "300"),
        ("classes: [{name: a, id: x}]", "integers"),
        ("classes: [{id: 3}]", "needs a `name:`"),
        ("classes: [{name: a, id: 1}, {name: b, id: 1}]", "both 'a' and 'b'"),
        ("classes: [a, b]\nignore: [1]", "both ignored and class 'b'"),
        ('classes: [{name: a, color: "#80408z"}, b]', "class 'a': colour '#80408z' is neither"),
        ('classes: [{name: a, color: "#-1+1 2"}, b]', "class 'a': colour"),
        ("classes: [{name: a, color: 0x804080}, b]", "class 'a': colour 8405120 is neither"),
        ("classes:\n- name: a\n  color: #804080\n", "class 'a': `color:` is empty"),
        ("classes: [{name: a, color: [1, 2, -3]}]", "class 'a': colour [1, 2, -3] is not three"),
        ("classes: [{name: a, color: [1, 2, red]}]", "class 'a': "),
        ("classes: [yes, no]", "YAML reads yes, no, on and off as truth values"),
        ("classes: [a, ' ']", "class 2: the name ' ' must be one line"),
        ('classes: ["a\\nb", c]', "must be one line of visible text"),
        ("classes: [a, 7]", "class 2 needs a `name:` that is text"),
        ("classes: [a]\nclasses: [b, c]", "line 2 ('classes' stands twice)"),
        ("classes: [{name: a, id: 1, id: 2}]", "line 1 ('id' stands twice)"),
        ("classes: [a, b]\nignore:", "ids are integers, not None"),
        ("classes: [a, {name: b, id: 70000}]", "raw id 70000"),
    ],
)
def test_faulty_yaml_is_one_clear_line(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "labels.yaml"
    path.write_text(text)
    with pytest.raises(BinsegError) as caught:
        read_labels_yaml(path)
    message = str(caught.value)
    assert message.startswith(str(path))
    assert says in message
    assert "\n" not in message


@pytest.mark.parametrize("coding", ["utf-8", "utf-8-sig", "utf-16"])
def test_codings(tmp_path: Path, coding: str) -> None:
    path = tmp_path / "labels.yaml"
    path.write_bytes("classes: [Straße, 道路]\n".encode(coding))
    assert read_labels_yaml(path).names == ("Straße", "道路")
    path.write_bytes("classes: [Straße]\n".encode("latin-1"))
    with pytest.raises(BinsegError, match="save it as UTF-8"):
        read_labels_yaml(path)


def test_missing_yaml_says_what_to_write(tmp_path: Path) -> None:
    with pytest.raises(BinsegError, match="classes:"):
        read_labels_yaml(tmp_path / "labels.yaml")
