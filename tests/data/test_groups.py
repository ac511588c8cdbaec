"""Splits by group: no group is in train and in val, and folds can be named."""

import random
from collections.abc import Callable
from pathlib import Path

import pytest
from parsed_configs import parsed

from binseg.data.config import DataConfig
from binseg.data.files import hashed_val
from binseg.data.groups import group_of, group_pattern, held_out
from binseg.data.module import SegmentationData
from binseg.data.parts import JoinedDatasets
from binseg.data.samples import SegmentationDataset
from binseg.errors import BinsegError
from binseg.training.config import Experiment
from binseg.training.run_folder import write_config

WritePair = Callable[..., None]

CAMVID = {
    "train": ["0001TP_006690", "0001TP_006720", "0006R0_f00930", "0016E5_00390", "0016E5_08640"],
    "val": ["0016E5_07959", "0016E5_07961"],
}


@pytest.fixture
def streets(tmp_path: Path, write_pair: WritePair) -> str:
    """CamVid's names in CamVid's folders."""
    for split, stems in CAMVID.items():
        for seed, stem in enumerate(stems):
            write_pair(
                tmp_path / f"{split}/{stem}.png", tmp_path / f"{split}annot/{stem}.png", seed
            )
    return str(tmp_path)


def names(dataset: SegmentationDataset) -> list[str]:
    return [dataset.sample_name(index) for index in range(len(dataset))]


def opened(**settings: object) -> tuple[list[str], list[str]]:
    config = DataConfig(**settings)  # type: ignore[arg-type]
    train, val = (names(config.open(split)) for split in ("train", "val"))
    return train, val


@pytest.mark.parametrize("fold", ["0001TP", "0006R0", "0016E5"])
def test_a_camvid_sequence_is_left_out(streets: str, fold: str) -> None:
    everything = CAMVID["train"] + CAMVID["val"]
    train, val = opened(name="camvid", root=streets, val_groups=fold)
    assert val == [name for name in everything if name.startswith(fold)]
    assert train == [name for name in everything if not name.startswith(fold)]
    # the same by a pattern, with and without a parenthesis
    for pattern in ("^[^_]+", "^(.+?)_", "sequence"):
        assert (train, val) == opened(
            name="camvid", root=streets, group_by=pattern, val_groups=[fold]
        )


def test_samples_are_those_of_the_files(streets: str) -> None:
    config = DataConfig("camvid", streets, val_groups="0016E5")
    val = config.open("val")
    for index in range(len(val)):
        sample = val[index]
        paths = val.sample_paths(index)
        assert paths is not None
        assert paths[0].stem == sample.name == val.sample_name(index)
        assert (sample.labels == val.read_labels(index)).all()
    assert [Path(val.sample_paths(i)[0]).parent.name for i in range(4)] == [  # type: ignore[index]
        *["train"] * 2,
        *["val"] * 2,
    ]
    assert SegmentationData(config).in_words() == (
        "camvid: 3 images for training, 4 images for scoring; training: groups 0001TP, 0006R0; "
        "scoring: group 0016E5"
    )


def test_trainval(streets: str, tmp_path: Path) -> None:
    train, val = opened(name="camvid", root=streets, train_split="trainval")
    assert train == CAMVID["train"] + CAMVID["val"]
    assert val == CAMVID["val"]
    words = SegmentationData(DataConfig("camvid", streets, train_split="trainval")).in_words()
    assert words.endswith("2 images for scoring; training: train and val together")
    (tmp_path / "val").rename(tmp_path / "gone")
    alone = DataConfig("camvid", streets, train_split="trainval").open("train")
    assert names(alone) == CAMVID["train"]


def test_folders_and_patients(tmp_path: Path, write_pair: WritePair) -> None:
    stems = [f"patient{p}_slice{s}" for p in range(12) for s in range(3)]
    for seed, stem in enumerate(stems):
        write_pair(tmp_path / f"images/{stem}.png", tmp_path / f"masks/{stem}.png", seed, (8, 8))
    (tmp_path / "labels.yaml").write_text("classes: [a, b, c, d]\n")
    settings = {"name": "folder", "root": str(tmp_path), "group_by": r"^patient(\d+)"}
    train, val = opened(**settings)
    assert sorted(train + val) == sorted(stems)
    held = {name.split("_")[0] for name in val}
    assert held
    assert held.isdisjoint({name.split("_")[0] for name in train})
    assert held == {f"patient{p}" for p in hashed_val(map(str, range(12)))}
    one, other = opened(**settings, val_groups="3,11")
    assert {name.split("_")[0] for name in other} == {"patient3", "patient11"}
    assert len(one) == 30


def test_held_out_groups_are_never_all_or_none() -> None:
    rng = random.Random(0)
    shares = []
    for _ in range(300):
        groups = [f"g{rng.randrange(10**6)}" for _ in range(rng.randrange(2, 40))]
        if len(set(groups)) < 2:
            continue
        val = held_out(groups)
        assert 0 < len(val) < len(set(groups))
        assert val == held_out(list(reversed(groups)))
        shares.append(len(val) / len(set(groups)))
    assert 0.15 < sum(shares) / len(shares) < 0.3
    with pytest.raises(BinsegError, match="one group, 'a'"):
        held_out(["a", "a"])


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"val_groups": "0016E"}, "no group '0016E'; did you mean '0016E5'"),
        ({"val_groups": "0016E5,0006R0,0001TP"}, "nothing is left to train on"),
        ({"val_groups": []}, "names no group"),
        ({"val_groups": [1.6e6]}, "write it in quotes"),
        ({"group_by": "["}, "no regular expression"),
        ({"group_by": "^0016E5"}, "'0001TP_006690' and 2 more names do not match"),
    ],
)
def test_mistakes_are_one_line(streets: str, settings: dict, says: str) -> None:
    with pytest.raises(BinsegError) as caught:
        opened(name="camvid", root=streets, **settings)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_sets_without_groups(tmp_path: Path) -> None:
    with pytest.raises(BinsegError, match=r"'scenes' has splits of its own"):
        DataConfig("scenes", group_by="x").open("train")
    with pytest.raises(BinsegError, match=r"needs data.group_by"):
        DataConfig("folder", str(tmp_path), val_groups="a").open("train")
    with pytest.raises(BinsegError, match=r"sequences of 'folder' are not known"):
        group_pattern("sequence", "folder")


def test_group_of() -> None:
    assert group_of(group_pattern("folder", "x"), "a/b/c_1") == "a/b"
    assert group_of(group_pattern("folder", "x"), "c_1") is None
    assert group_of(group_pattern("(a)|(b)", "x"), "xb") == "b"
    assert group_of(group_pattern("sequence", "camvid"), "Seq05VD_f00000") == "Seq05VD"


def test_joined_names_stay_unique(tmp_path: Path, write_pair: WritePair) -> None:
    for split, stems in (("train", ["1", "1_2", "2"]), ("val", ["1", "2"])):
        for seed, stem in enumerate(stems):
            write_pair(
                tmp_path / f"{split}/{stem}.png", tmp_path / f"{split}annot/{stem}.png", seed
            )
    config = DataConfig("camvid", str(tmp_path))
    joined = JoinedDatasets([config.open("train"), config.open("val")])
    assert names(joined) == ["1", "1_2", "2", "1_3", "2_2"]
    assert [joined[index].name for index in range(5)] == names(joined)
    assert [joined.sample_key(index) for index in range(5)] == ["1", "1_2", "2", "1", "2"]


def test_hashes_are_of_bytes_and_of_composed_letters() -> None:
    many = [f"p{n:02d}" for n in range(30)]
    # the first four bytes of SHA-256, modulo five: must never change, or splits of old runs would
    assert hashed_val(many) == {"p08", "p20", "p26", "p27"}
    odd = b"stra\xdfe".decode(errors="surrogateescape")
    assert hashed_val([*many, odd]) - {odd} == hashed_val(many)
    for number in range(50):
        names = [f"gr\u00f6\u00dfe{number}", f"gro\u0308\u00dfe{number}"]
        chosen = hashed_val([*many, *names])
        assert (names[0] in chosen) == (names[1] in chosen)


def test_a_small_set_has_both_splits() -> None:
    assert hashed_val(["p00"]) == set()
    assert hashed_val([]) == set()
    for count in range(2, 8):
        assert 0 < len(hashed_val([f"p{n:02d}" for n in range(count)])) < count
    only_val = ["p08", "p20", "p26"]
    assert len(hashed_val(only_val)) == 2


def test_group_names_that_look_like_numbers_outlive_a_run_folder(tmp_path: Path) -> None:
    for val_groups in ("0016E5", ["0016E5", "0001TP"]):
        experiment = Experiment(data=DataConfig("camvid", val_groups=val_groups))
        write_config(experiment, tmp_path)
        assert parsed(tmp_path / "config.yaml")["data"]["val_groups"] == val_groups
        parsed.cache_clear()
