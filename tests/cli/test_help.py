"""Help pages, and what shells complete."""

import inspect
import re
import shutil
import subprocess
import sys

import pytest

from binseg.cli import main
from binseg.cli.commands import COMMANDS
from binseg.cli.completion import DATA_SETS
from binseg.cli.help_text import first_clause
from binseg.cli.main import find
from binseg.cli.parser import CommandParser
from binseg.data.datasets import DATASETS
from binseg.errors import BinsegWarning
from binseg.shipped import shipped_models

PYTHON = re.compile(r"Union|Optional|Literal|NoneType|<class|Callable|type:|\b(list|tuple|dict)\[")


def page(capsys, monkeypatch, name: str, *arguments: str) -> str:
    monkeypatch.setenv("COLUMNS", "100")
    assert main([*name.split(), *arguments]) == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("name", COMMANDS)
def test_help_is_one_screen_and_help_all_has_everything(capsys, monkeypatch, name):
    short = page(capsys, monkeypatch, name, "--help")
    full = page(capsys, monkeypatch, name, "--help-all")
    assert full == page(capsys, monkeypatch, name, "--help", "all")
    assert len(short.splitlines()) <= 40
    for text in (short, full):
        assert text.startswith(f"usage: binseg {name}")
        assert not PYTHON.search(text)
        assert max(map(len, text.splitlines())) <= 100
    command, function = find(name)
    options = CommandParser(command, function, name).options()
    assert {*inspect.signature(function).parameters} - {"continue_"} <= {
        option.key.partition(".")[0] for option in options
    }
    words = full.replace(",", " ").split()
    assert all(flag in words for option in options for flag in option.flags)
    known = {option.key for option in options}
    assert known.issuperset(command.common)
    assert all(option.value in short for option in options if not option.flags)
    if command.models:
        assert all(shipped in " ".join(short.split()) for shipped in shipped_models())


def test_help_has_defaults_and_meanings(capsys, monkeypatch):
    text = page(capsys, monkeypatch, "train", "--help")
    assert "--optimizer.lr X            peak learning rate (default: 0.001)" in text
    assert "--model.precision {binary,full}" in text
    assert "--resume, --no-resume" in text
    assert "model.gates" not in text
    assert "--model.gates {shared,per_branch,none}" in page(
        capsys, monkeypatch, "train", "--help-all"
    )


def test_help_is_quick_because_it_loads_nothing_heavy():
    script = (
        "import sys\nfrom binseg.cli import main\nfrom binseg.cli.commands import COMMANDS\n"
        "for name in COMMANDS: main([*name.split(), '--help'])\n"
        "heavy = {'torch', 'cv2', 'lightning', 'matplotlib', 'albumentations', 'scipy', 'gradio'}\n"
        "print(sorted(heavy & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "[]"


def test_a_group_of_commands_lists_them(capsys, monkeypatch):
    text = page(capsys, monkeypatch, "data", "--help")
    assert re.findall(r"^  (data \w+)", text, re.M) == [n for n in COMMANDS if n[:5] == "data "]
    assert main(["data"]) == 2


NEEDED = {
    "pack": ["model", "--out", "x.safetensors"],
    "summary": ["model"],
    "compare": ["--out", "x", "--networks", "{a: null}"],
    "data bench": [],
}
OLD_VALUES = {"rest": "bf16", "least_agreement": 0.5, "pictures": 3}


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [(name, *pair) for name, command in COMMANDS.items() for pair in command.renamed.items()],
)
def test_old_names_of_options_work_with_a_note(name, old, new):
    reader = CommandParser(*find(name), f"binseg {name}")
    arguments = [*NEEDED[name], f"--{old}", str(OLD_VALUES[old])]
    with pytest.warns(BinsegWarning, match=f"{old} is now called {new}"):
        found = reader.parse(reader.spelled(arguments))
    assert found[new] == OLD_VALUES[old]
    assert old not in found


def test_first_clauses():
    assert first_clause("one; two") == "one"
    assert first_clause("Of one. Of two.") == "Of one"
    assert first_clause("a name, e.g. this; or that.") == "a name, e.g. this"
    assert (
        first_clause("workers (by default some; 0: none); more")
        == "workers (by default some; 0: none)"
    )


# completion


@pytest.fixture(scope="module")
def scripts(tmp_path_factory):
    """Shell → file with its completions."""
    folder = tmp_path_factory.mktemp("completion")
    program = (
        "import sys\nfrom binseg.cli import main\n"
        "for shell in ('bash', 'zsh', 'fish'):\n"
        "    assert main(['completion', shell, '--out', f'{sys.argv[1]}/new/{shell}']) == 0\n"
    )
    subprocess.run([sys.executable, "-c", program, str(folder)], check=True)
    return {shell: folder / "new" / shell for shell in ("bash", "zsh", "fish")}


COMPLETED = [
    ("binseg pre", {"predict", "pretrain"}),
    ("binseg data ch", {"check"}),
    ("binseg train --data.na", {"--data.name"}),
    ("binseg train --data.name ci", {"cityscapes"}),
    ("binseg train --config camvid/groupnet18_b", {"camvid/groupnet18_bpac"}),
    ("binseg predict camvid-", {"camvid-base", "camvid-small"}),
    ("binseg evaluate x --against camvid-b", {"camvid-base"}),
    ("binseg bench groupnet18_", {"groupnet18_star"}),
    ("binseg pack x --other-layers ", {"fp32", "bf16", "int8"}),
    ("binseg pack mod", {"model.safetensors"}),
    ("binseg completion ", {"bash", "zsh", "fish"}),
]


def test_bash_completes_commands_options_names_and_files(scripts, tmp_path):
    (tmp_path / "model.safetensors").touch()
    ask = """source "$1"; shift
COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1))
_shtab_binseg binseg "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD - 1]}"
printf '%s\\n' "${COMPREPLY[@]}"
"""
    for line, expected in COMPLETED:
        done = subprocess.run(
            ["bash", "-c", ask, "bash", scripts["bash"], *line.split(" ")],
            capture_output=True,
            text=True,
            cwd=tmp_path,
        )
        assert (line, {*done.stdout.split()}, done.stderr) == (line, expected, "")


@pytest.mark.skipif(shutil.which("fish") is None, reason="needs fish")
def test_fish_completes_commands_options_names_and_files(scripts, tmp_path):
    (tmp_path / "model.safetensors").touch()
    for line, expected in COMPLETED:
        ask = f"source {scripts['fish']}; complete -C '{line}' | string split -f1 \\t"
        done = subprocess.run(["fish", "-c", ask], capture_output=True, text=True, cwd=tmp_path)
        assert (line, {*done.stdout.split()}) == (line, expected)


@pytest.mark.skipif(shutil.which("zsh") is None, reason="needs zsh")
def test_zsh_reads_its_script(scripts):
    subprocess.run(["zsh", "-n", scripts["zsh"]], check=True)


def test_the_scripts_for_other_shells_have_the_names(scripts):
    for shell in ("zsh", "fish"):
        text = scripts[shell].read_text()
        assert all(name in text for name in (*shipped_models(), "groupnet18_star", "data.name"))


def test_data_sets_are_all_completed():
    assert set(DATA_SETS) == set(DATASETS)
