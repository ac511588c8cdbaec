"""`binseg config`, and shipped configurations by name after --config."""

from pathlib import Path

import pytest

from binseg.cli import main
from binseg.cli.config import with_shipped_configs
from binseg.shipped_configs import shipped_configs

ROOT = Path(__file__).parents[2]


def test_all_configurations_are_listed(capsys):
    assert main(["config", "ls"]) == 0
    names = [line.split()[0] for line in capsys.readouterr().out.splitlines()]
    files = sorted((ROOT / "configs").rglob("*.yaml"))
    assert sorted(names) == [str(f.relative_to(ROOT / "configs").with_suffix("")) for f in files]


def test_a_copy_never_overwrites(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["config", "cp", "voc/groupnet18_bpac"]) == 0
    copied = tmp_path / "groupnet18_bpac.yaml"
    assert copied.read_bytes() == (ROOT / "configs/voc/groupnet18_bpac.yaml").read_bytes()
    copied.write_text("mine\n")
    assert main(["config", "cp", "voc/groupnet18_bpac"]) == 1
    assert copied.read_text() == "mine\n"
    assert main(["config", "cp", "configs/voc/groupnet18_bpac.yaml", "--out", "b.yaml"]) == 0
    assert (tmp_path / "b.yaml").is_file()
    assert main(["config", "cp", "voc/groupnet18_bpec"]) == 1
    assert "did you mean 'voc/groupnet18_bpac'" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["camvid/groupnet18_bpac", "configs/camvid/groupnet18_bpac.yaml"])
def test_a_name_stands_for_its_file_unless_there_is_one(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    file = str(shipped_configs()["camvid/groupnet18_bpac"])
    for given, wanted in (
        (["--config", name, "--out", "x"], ["--config", file, "--out", "x"]),
        ([f"--config={name}"], [f"--config={file}"]),
        (["--out", name], ["--out", name]),
        (["--config", "other"], ["--config", "other"]),
    ):
        assert with_shipped_configs(given) == wanted
    own = tmp_path / name
    own.parent.mkdir(parents=True)
    own.touch()
    assert with_shipped_configs(["--config", name]) == ["--config", name]
