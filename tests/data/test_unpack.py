"""An archive writes into its own folder or not at all."""

import io
import os
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from binseg.data import unpack as module
from binseg.data.unpack import unpack
from binseg.errors import BinsegError

INSIDE = "VOCdevkit/VOC2012"


def entry(name: str, data: bytes = b"x", **attributes: object) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    for key, value in attributes.items():
        setattr(info, key, value)
    return info, data


def link(name: str, target: str, kind: bytes = tarfile.SYMTYPE) -> tuple[tarfile.TarInfo, bytes]:
    return entry(name, b"", type=kind, linkname=target)


@pytest.fixture
def extract(tmp_path: Path) -> Callable[..., list[str]]:
    """extract(entry, …): what lies in tmp_path after unpacking an archive of these and one file."""

    def run(*entries: tuple[tarfile.TarInfo, bytes]) -> list[str]:
        home = tmp_path / "home"
        home.mkdir()
        archive = home / "archive.tar"
        with tarfile.open(archive, "w") as tar:
            for info, data in (entry(f"{INSIDE}/ok.txt"), *entries):
                tar.addfile(info, io.BytesIO(data))
        try:
            unpack(archive, INSIDE, home / INSIDE, lambda *_: None)
        finally:
            found = [path for path in tmp_path.rglob("*") if not path.is_dir()]
        return sorted(path.relative_to(home).as_posix() for path in found)

    return run


@pytest.mark.parametrize(
    "entries",
    [
        [entry("../evil")],
        [entry("VOCdevkit/../../evil")],
        [link(f"{INSIDE}/out", "../../../.."), entry(f"{INSIDE}/out/evil")],
        [link(f"{INSIDE}/out", "/tmp")],
        [link(f"{INSIDE}/hard", "../../evil", tarfile.LNKTYPE)],
        [entry(f"{INSIDE}/pipe", b"", type=tarfile.FIFOTYPE)],
        [entry(f"{INSIDE}/device", b"", type=tarfile.CHRTYPE, devmajor=1, devminor=3)],
    ],
)
def test_what_leads_out_is_refused(
    tmp_path: Path, extract: Callable[..., list[str]], entries: list
) -> None:
    with pytest.raises(BinsegError) as caught:
        extract(*entries)
    assert "would not stay in the archive's folder" in str(caught.value)
    assert str(caught.value).startswith(str(tmp_path / "home/archive.tar"))
    assert "\n" not in str(caught.value)
    files = [path for path in tmp_path.rglob("*") if path.is_symlink() or path.is_file()]
    assert files == [tmp_path / "home/archive.tar"], "nothing is left, inside or outside"


def test_absolute_paths_stay_inside(tmp_path: Path, extract: Callable[..., list[str]]) -> None:
    found = extract(entry(f"{tmp_path}/evil"), entry(f"/{INSIDE}/two.txt"))
    assert found == [f"{INSIDE}/ok.txt", f"{INSIDE}/two.txt", "archive.tar"]


def test_modes_and_owners_are_not_taken_over(
    tmp_path: Path, extract: Callable[..., list[str]]
) -> None:
    extract(entry(f"{INSIDE}/tool", mode=0o6777, uid=1234, gid=1234))
    found = (tmp_path / "home" / INSIDE / "tool").stat()
    assert found.st_mode & 0o7022 == 0
    assert found.st_uid == os.getuid()


def test_links_inside_are_kept(tmp_path: Path, extract: Callable[..., list[str]]) -> None:
    extract(link(f"{INSIDE}/again.txt", "ok.txt"))
    assert (tmp_path / "home" / INSIDE / "again.txt").read_bytes() == b"x"


def test_the_folder_itself_may_be_no_link(tmp_path: Path) -> None:
    archive = tmp_path / "archive.tar"
    with tarfile.open(archive, "w") as tar:
        for info, data in (entry("other/ok.txt"), link("VOC2012", "other")):
            tar.addfile(info, io.BytesIO(data))
    with pytest.raises(BinsegError, match="holds no folder VOC2012"):
        unpack(archive, "VOC2012", tmp_path / "VOC2012", lambda *_: None)


@pytest.mark.parametrize("suffix", ["tar", "tgz"])
def test_a_damaged_archive_is_one_line(tmp_path: Path, suffix: str) -> None:
    archive = tmp_path / f"archive.{suffix}"
    with tarfile.open(archive, f"w:{'gz' if suffix == 'tgz' else ''}") as tar:
        info, data = entry(f"{INSIDE}/noise", os.urandom(50_000))
        tar.addfile(info, io.BytesIO(data))
    archive.write_bytes(archive.read_bytes()[:20_000])
    with pytest.raises(BinsegError, match=r"damaged .*get it again") as caught:
        unpack(archive, INSIDE, tmp_path / INSIDE, lambda *_: None)
    assert "\n" not in str(caught.value)
    assert sorted(path.name for path in tmp_path.rglob("*") if path.is_file()) == [archive.name]


def test_a_python_without_filters_does_not_unpack(
    tmp_path: Path, extract: Callable[..., list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(module.tarfile, "data_filter")
    with pytest.raises(BinsegError, match=r"use 3\.11\.4 or newer"):
        extract()
