"""The Dockerfile copies and runs what is there; no daemon is needed to see that."""

import fnmatch
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from test_wheel import SOURCES

from binseg.cli.commands import COMMANDS

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "Dockerfile").read_text()
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def instructions(name: str) -> list[str]:
    return re.findall(rf"^{name} (.+)$", TEXT, re.MULTILINE)


def copied() -> list[str]:
    sources = [line.split()[:-1] for line in instructions("COPY") if "--from" not in line]
    return [source for each in sources for source in each]


def test_it_copies_what_the_wheel_is_made_of():
    """test_wheel.py builds the wheel from a copy of the same files."""
    assert sorted(copied()) == sorted(SOURCES)
    assert all((ROOT / source).exists() for source in copied())


def test_the_builder_gets_what_is_copied_and_nothing_else():
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    lines = [line for line in lines if line and not line.startswith("#")]
    assert lines[0] == "*"
    kept = {line[1:] for line in lines if line.startswith("!")}
    assert kept == set(copied())
    hidden = [line for line in lines[1:] if not line.startswith("!")]
    for source in copied():
        assert not any(fnmatch.fnmatch(source, pattern) for pattern in hidden)


def test_what_it_runs_is_there():
    (entry,) = instructions("ENTRYPOINT")
    assert entry == '["binseg"]'
    assert "binseg" in PROJECT["scripts"]
    (extras,) = set(re.findall(r"EXTRAS=(\w+)", TEXT))
    assert extras in PROJECT["optional-dependencies"]
    ran = re.findall(r"^#   docker run .*? binseg(?:-demo)? (.+)$", TEXT, re.MULTILINE)
    assert len(ran) == 2
    for command in ran:
        name, *arguments = shlex.split(command)
        assert name in COMMANDS
        shown = help_of(name)
        assert all(word in shown for word in arguments if word.startswith("--"))


def help_of(command: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "binseg", command, "--help"],
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


@pytest.mark.parametrize(
    ("extras", "wanted"),
    [("", "/binseg-1-py3-none-any.whl"), ("demo", "/binseg-1-py3-none-any.whl[demo]")],
)
def test_the_wheel_is_found_with_its_extras(tmp_path, extras, wanted):
    """The shell's part of the last RUN, with a wheel of that name."""
    (tmp_path / "binseg-1-py3-none-any.whl").touch()
    install = next(line for line in instructions("RUN") if "pip install" in line)
    argument = re.search(r'"(\$\(echo .+?)" &&', install)[1].replace("/wheels", str(tmp_path))
    done = subprocess.run(
        ["sh", "-c", f'echo "{argument}"'],
        capture_output=True,
        text=True,
        check=True,
        env={"EXTRAS": extras, "PATH": "/usr/bin:/bin"},
    )
    assert done.stdout.strip() == f"{tmp_path}{wanted}"
