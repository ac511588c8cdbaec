"""`binseg data prepare`: downloads from a server on the loopback, trees that people unpacked."""

import errno
import fcntl
import hashlib
import os
import shutil
import signal
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from archive_server import ArchiveServer, serving
from dataset_trees import write_cityscapes, write_voc
from torchvision.datasets import SBDataset
from torchvision.datasets.voc import DATASET_YEAR_DICT

from binseg.cli import data_prepare, main
from binseg.data import cityscapes, fetch, unpack, voc, voc_setup
from binseg.data.voc import VOCDataset

VOC_TAR = "VOCtrainval_11-May-2012.tar"
SBD_TGZ = "benchmark.tgz"


class Published(NamedTuple):
    """A tree in full, and a server with its archives."""

    tree: Path
    server: ArchiveServer


@pytest.fixture
def published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Published]:
    """The benchmark at 4 + 3 images and 5 of SBD, as torchvision's constants describe it."""
    tree, shop = tmp_path / "tree", tmp_path / "shop"
    shop.mkdir()
    write_voc(tree, sbd=5)
    with tarfile.open(shop / VOC_TAR, "w") as tar:
        tar.add(tree / "VOCdevkit", "VOCdevkit")
    with tarfile.open(shop / SBD_TGZ, "w:gz") as tar:
        tar.add(tree / "sbd", "benchmark_RELEASE/dataset")
    for split, size in {"train": 4, "val": 3, "trainval": 7, "trainaug": 9}.items():
        monkeypatch.setitem(voc.FULL_SIZES, split, size)
    for name in ("train", "val"):
        listed = (tree / "sbd" / f"{name}.txt").read_text().split()
        monkeypatch.setitem(voc_setup.SBD_SIZES, name, len(listed))
    monkeypatch.setattr(voc_setup, "VOC_IMAGES", 7)
    monkeypatch.setenv("no_proxy", "*")
    with serving(shop) as server:
        for name, record, keys in (
            (VOC_TAR, DATASET_YEAR_DICT["2012"], ("url", "md5")),
            (SBD_TGZ, SBDataset, ("url", "md5")),
        ):
            md5 = hashlib.md5((shop / name).read_bytes()).hexdigest()
            for key, value in zip(keys, (f"{server.url}/{name}", md5), strict=True):
                change = monkeypatch.setitem if isinstance(record, dict) else monkeypatch.setattr
                change(record, key, value)
        yield Published(tree, server)


def prepare(root: Path, *options: str, name: str = "voc") -> int:
    return main(["data", "prepare", name, "--root", str(root), *options])


def files(root: Path) -> dict[str, bytes]:
    paths = (path for path in root.rglob("*") if path.is_file())
    return {str(path.relative_to(root)): path.read_bytes() for path in paths}


def assert_complete(root: Path, published: Published) -> None:
    """Every byte of the benchmark, its archives, and nothing else."""
    found = files(root)
    shop = files(published.server.folder)
    assert {name: found.pop(name) for name in (VOC_TAR, SBD_TGZ)} == shop
    assert found == files(published.tree)


def test_a_whole_download_and_nothing_the_second_time(published, tmp_path, monkeypatch, capsys):
    root = tmp_path / "data"
    assert prepare(root) == 0, capsys.readouterr()
    assert_complete(root, published)
    out = capsys.readouterr().out
    assert "PASCAL VOC 2012: 7 of 7 images" in out
    assert "train 4, val 3, trainval 7" in out
    assert "SBD: 7 of 7 images" in out
    assert "trainaug: 9 images" in out
    assert len(VOCDataset(root, "trainaug")) == 9
    before = files(root)
    published.server.asked.clear()
    for inner in ("", "VOCdevkit", "VOCdevkit/VOC2012"):
        assert prepare(root / inner) == 0
        monkeypatch.chdir(root / inner)
        assert prepare(Path()) == 0
    assert "voc is ready" in capsys.readouterr().out
    assert published.server.asked == []
    assert files(root) == before


def test_voc_alone(published, tmp_path):
    assert prepare(tmp_path / "data", "--no_sbd") == 0
    assert [name for name, _ in published.server.asked] == [VOC_TAR]
    assert not (tmp_path / "data" / "sbd").exists()


def test_cut_connections_are_continued(published, tmp_path):
    published.server.cut = [1000, 2345]
    assert prepare(tmp_path / "data") == 0
    ranges = [wanted for name, wanted in published.server.asked if name == VOC_TAR]
    assert ranges == [None, "bytes=1000-", "bytes=3345-"]
    assert_complete(tmp_path / "data", published)


def test_the_next_call_goes_on_where_the_first_was_cut(published, tmp_path, capsys):
    root = tmp_path / "data"
    published.server.cut = [15_000, 0]  # the second connection brings nothing
    assert prepare(root, "--no_sbd") == 1
    out = capsys.readouterr().out
    assert "are here and kept" in out
    assert "run this again" in out
    assert (root / f"{VOC_TAR}.part").stat().st_size == 15_000
    assert not (root / VOC_TAR).exists()
    assert not (root / "VOCdevkit").exists()
    assert prepare(root) == 0
    assert published.server.asked[2] == (VOC_TAR, "bytes=15000-")
    assert_complete(root, published)


def test_a_server_without_ranges_sends_everything_again(published, tmp_path):
    root = tmp_path / "data"
    published.server.ranges = False
    published.server.cut = [15_000, 0]
    assert prepare(root) == 1
    assert prepare(root) == 0
    assert_complete(root, published)


def test_a_whole_part_that_was_not_renamed_is_used(published, tmp_path):
    root = tmp_path / "data"
    root.mkdir()
    shutil.copy(published.server.folder / VOC_TAR, root / f"{VOC_TAR}.part")
    assert prepare(root) == 0
    assert_complete(root, published)


def test_another_file_under_the_address_is_refused(published, tmp_path, monkeypatch, capsys):
    root = tmp_path / "data"
    monkeypatch.setitem(DATASET_YEAR_DICT["2012"], "md5", "0" * 32)
    assert prepare(root, "--no_sbd") == 1
    assert "its MD5 is not 00000000" in capsys.readouterr().out
    assert list(root.iterdir()) == []


def test_killed_while_unpacking(published, tmp_path, monkeypatch):
    root = tmp_path / "data"

    def half(archive: Path, folder: Path) -> None:
        with tarfile.open(archive) as tar:
            members = tar.getmembers()
            tar.extractall(folder, members[: len(members) // 2], filter="data")
        os.kill(os.getpid(), signal.SIGKILL)

    child = os.fork()
    if child == 0:
        try:
            unpack._extract = half
            prepare(root)
        finally:
            os._exit(0)  # whatever went wrong, it must not run the other tests a second time
    assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL
    assert [path.name for path in (root / "VOCdevkit").iterdir()] == [".VOC2012.unpacking"]
    published.server.asked.clear()
    assert prepare(root) == 0
    assert [name for name, _ in published.server.asked] == [SBD_TGZ]
    assert_complete(root, published)


def test_ctrl_c_keeps_what_came(published, tmp_path, monkeypatch, capsys):
    root = tmp_path / "data"

    def stop(steps: object, what: str, done: int, total: int | None) -> None:
        if done >= 10_000:
            raise KeyboardInterrupt

    monkeypatch.setattr(fetch, "_CHUNK", 5000)
    with monkeypatch.context() as patch:
        patch.setattr(data_prepare._Steps, "on_progress", stop)
        assert prepare(root) == 130
    assert "interrupted" in capsys.readouterr().err
    (part,) = root.iterdir()
    assert part.name == f"{VOC_TAR}.part"
    kept = part.stat().st_size
    assert kept >= 10_000
    assert prepare(root) == 0
    assert published.server.asked[1] == (VOC_TAR, f"bytes={kept}-")
    assert_complete(root, published)


def test_a_half_extracted_tree_is_completed(published, tmp_path):
    root = tmp_path / "data"
    shutil.copytree(published.tree, root)
    tree = root / "VOCdevkit" / "VOC2012"
    image = tree / "JPEGImages" / "2008_000003.jpg"
    image.write_bytes(image.read_bytes()[:200])  # where the extraction stopped
    shutil.rmtree(tree / "SegmentationClass")
    (root / "sbd" / "train.txt").unlink()
    own = tree / "my_notes.txt"
    own.write_text("mine")
    assert prepare(root) == 0
    assert own.read_text() == "mine"
    own.unlink()
    assert_complete(root, published)


def test_without_a_network_every_archive_is_named(published, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(DATASET_YEAR_DICT["2012"], "url", "http://127.0.0.1:9/voc.tar")
    monkeypatch.setattr(SBDataset, "url", "http://127.0.0.1:9/sbd.tgz")
    assert prepare(tmp_path / "data") == 1
    lines = [line for line in capsys.readouterr().out.splitlines() if line]
    assert len(lines) == 2
    for line, name, url in zip(lines, (VOC_TAR, SBD_TGZ), ("voc.tar", "sbd.tgz"), strict=True):
        assert str(tmp_path / "data" / name) in line
        assert f"http://127.0.0.1:9/{url}" in line
        assert "Connection refused" in line


def test_archives_put_there_by_hand(published, tmp_path, capsys):
    root = tmp_path / "data"
    (root / "sbd").mkdir(parents=True)
    shutil.copy(published.server.folder / VOC_TAR, root)
    assert prepare(root, "--no_download") == 1
    out = capsys.readouterr().out
    assert "PASCAL VOC 2012: 7 of 7" in out
    assert f"{SBDataset.url} was not fetched (--no_download)" in out
    shutil.copy(published.server.folder / SBD_TGZ, root / "sbd")  # where torchvision puts it
    assert prepare(root, "--no_download") == 0
    assert published.server.asked == []


def test_a_damaged_archive_of_somebody_is_left_alone(published, tmp_path, capsys):
    root = tmp_path / "data"
    root.mkdir()
    whole = (published.server.folder / VOC_TAR).read_bytes()
    (root / VOC_TAR).write_bytes(whole[:5000])
    assert prepare(root, "--no_sbd") == 1
    assert f"rename it to {VOC_TAR}.part" in capsys.readouterr().out
    (root / VOC_TAR).rename(root / f"{VOC_TAR}.part")
    assert prepare(root) == 0
    assert published.server.asked[0] == (VOC_TAR, "bytes=5000-")
    assert_complete(root, published)


def test_a_selection_of_images_is_left_alone(published, tmp_path, capsys):
    root = write_voc(tmp_path / "data", train=3, val=3)
    before = files(root)
    assert prepare(root) == 1
    assert "3 names where PASCAL VOC 2012 has 4" in capsys.readouterr().err
    assert files(root) == before
    assert published.server.asked == []


def test_trainaug_as_other_toolkits_write_it(published, tmp_path, capsys):
    root = write_voc(tmp_path / "data")
    tree = root / "VOCdevkit" / "VOC2012"
    shutil.copytree(tree / "SegmentationClass", tree / "SegmentationClassAug")
    names = (tree / "ImageSets/Segmentation/trainval.txt").read_text().splitlines()
    (tree / "ImageSets/Segmentation/trainaug.txt").write_text("\n".join(names))
    assert prepare(root) == 1
    assert "trainaug: 7 images and not 9" in capsys.readouterr().out
    assert published.server.asked == []


def test_too_small_a_disk_is_said_before_the_download(published, tmp_path, monkeypatch, capsys):
    usage = type("usage", (), {"free": 50_000})
    monkeypatch.setattr(fetch.shutil, "disk_usage", lambda _: usage)
    assert prepare(tmp_path / "data", "--no_sbd") == 1
    out = capsys.readouterr().out
    assert VOC_TAR in out
    assert "GB are free" in out
    assert list((tmp_path / "data").iterdir()) == []


def test_a_disk_that_fills_up_loses_nothing(published, tmp_path, monkeypatch, capsys):
    root = tmp_path / "data"
    real, written = Path.open, []

    def small(self: Path, mode: str = "r", *rest, **more):
        file = real(self, mode, *rest, **more)
        if self.suffix == ".part" and "b" in mode and "r" not in mode:

            class Full:
                def __enter__(self):
                    return self

                def __exit__(self, *_):
                    file.close()

                def write(self, data: bytes) -> None:
                    if written:
                        raise OSError(errno.ENOSPC, "No space left on device")
                    written.append(file.write(data[:4000]))

            return Full()
        return file

    monkeypatch.setattr(Path, "open", small)
    monkeypatch.setattr(fetch, "_CHUNK", 4000)
    assert prepare(root, "--no_sbd") == 1
    assert "no space left" in capsys.readouterr().out
    monkeypatch.setattr(Path, "open", real)
    assert prepare(root) == 0
    assert published.server.asked[1] == (VOC_TAR, "bytes=4000-")
    assert_complete(root, published)


def test_a_disk_that_fills_up_while_unpacking(published, tmp_path, monkeypatch, capsys):
    root = tmp_path / "data"

    def full(archive: Path, folder: Path) -> None:
        (folder / "VOCdevkit" / "VOC2012").mkdir(parents=True)
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(unpack, "_extract", full)
        assert prepare(root, "--no_sbd") == 1
    assert "no space left" in capsys.readouterr().out
    assert list((root / "VOCdevkit").iterdir()) == []
    assert prepare(root) == 0
    assert_complete(root, published)


def test_two_calls_at_once(published, tmp_path, capsys):
    root = tmp_path / "data"
    root.mkdir()
    with (root / ".preparing").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert prepare(root, "--no_sbd") == 1
    assert "another `binseg data prepare` is at work" in capsys.readouterr().out
    assert prepare(root) == 0


def test_data_sets_that_are_not_prepared(capsys):
    for name, says in (
        ("camvid", "ROOT/trainannot/"),
        ("folder", "labels.yaml"),
        ("cityscape", "did you mean 'cityscapes'"),
    ):
        assert prepare(Path("data"), name=name) == 1
        assert says in capsys.readouterr().err


# --- Cityscapes -------------------------------------------------------------------------------


@pytest.fixture
def city(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for split, size in {"train": 4, "val": 2, "test": 1, "train_extra": 3}.items():
        monkeypatch.setitem(cityscapes.FULL_SIZES, split, size)
    return write_cityscapes(tmp_path / "city", train=4, val=2, test=1, train_extra=3)


def missing(root: Path, capsys: pytest.CaptureFixture[str], *options: str) -> list[str]:
    """The lines that say what is missing."""
    before = files(root)
    status = prepare(root, *options, name="cityscapes")
    assert files(root) == before, "a check writes nothing"
    lines = capsys.readouterr().out.splitlines()
    found = ("train: ", "train_extra: ", "val: ", "test: ", "cityscapes is ready")
    told = [line for line in lines if not line.startswith(found)]
    assert status == bool(told)
    return told


def test_a_whole_cityscapes(city, capsys):
    assert prepare(city, name="cityscapes") == 0
    out = capsys.readouterr().out
    assert "train: 4 of the full set's 4 images" in out
    assert "test: 1 of the full set's 1" in out
    assert "cityscapes is ready" in out


def test_images_and_masks_without_their_other_half(city, capsys):
    (city / "gtFine/train/aachen/aachen_000003_000019_gtFine_labelIds.png").unlink()
    (city / "gtFine/train/ulm/ulm_000002_000019_gtFine_labelIds.png").unlink()
    (city / "leftImg8bit/val/bochum/bochum_000001_000019_leftImg8bit.png").unlink()
    masks, images = missing(city, capsys)
    assert masks == (
        f"{city}/gtFine/train: 2 images have no *_labelIds.png: aachen 1 (aachen_000003_000019), "
        "ulm 1 (ulm_000002_000019); unpack gtFine_trainvaltest.zip again"
    )
    assert images.startswith(f"{city}/leftImg8bit/val: 1 masks have no image: bochum 1")
    assert images.endswith("unpack leftImg8bit_trainvaltest.zip again")


def test_a_city_is_missing(city, capsys):
    for kind in ("leftImg8bit", "gtFine"):
        shutil.rmtree(city / kind / "train/aachen")
    (line,) = missing(city, capsys)
    assert "2 of 4 images of the full set, in 2 cities" in line


def test_only_images(city, capsys):
    shutil.rmtree(city / "gtFine")
    (line,) = missing(city, capsys)
    assert f"{city}/gtFine/train, {city}/gtFine/val: missing; download gtFine_trainvalt" in line
    (city / "gtFine_trainvaltest.zip").write_bytes(b"PK")
    (line,) = missing(city, capsys)
    assert "gtFine_trainvaltest.zip is not unpacked" in line


def test_one_folder_too_deep(city, capsys):
    (city / "gtFine_trainvaltest").mkdir()
    (city / "gtFine").rename(city / "gtFine_trainvaltest/gtFine")
    (line,) = missing(city, capsys)
    assert f"move {city}/gtFine_trainvaltest/gtFine/* to {city}/gtFine/" in line


def test_another_root_is_meant(city, capsys):
    lines = missing(city.parent, capsys)
    assert len(lines) == 2
    assert all(line.endswith(f"set --root {city}") for line in lines)
    lines = missing(city / "leftImg8bit", capsys)
    assert len(lines) == 2
    assert all(line.endswith(f"set --root {city}") for line in lines)


def test_coarse_labels_have_archives_of_their_own(city, capsys):
    lines = missing(city, capsys, "--annotations", "coarse")
    assert len(lines) == 1, "this tree has coarse labels for train_extra alone"
    assert "gtCoarse/train: missing; download gtCoarse.zip" in lines[0]
    shutil.copytree(city / "gtFine/train", city / "gtCoarse/train")
    for path in (city / "gtCoarse/train").rglob("*.png"):
        path.rename(path.with_name(path.name.replace("gtFine", "gtCoarse")))
    assert missing(city, capsys, "--annotations", "coarse") == []
    shutil.rmtree(city / "leftImg8bit/train_extra")
    (line,) = missing(city, capsys, "--annotations", "coarse")
    assert "download leftImg8bit_trainextra.zip" in line


def test_no_such_folder(tmp_path, capsys):
    assert prepare(tmp_path / "none", name="cityscapes") == 1
    assert "no such folder" in capsys.readouterr().err
