"""How the command line answers."""

import io
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
import yaml

from binseg.cli import main
from binseg.cli.commands import COMMANDS
from binseg.errors import BinsegWarning
from binseg.nn.backbones import list_backbones
from binseg.nn.segmenter import list_models
from binseg.shipped import shipped_models


def run(capsys, *arguments):
    """(exit status, stdout, stderr)."""
    status = main(list(arguments))
    captured = capsys.readouterr()
    return status, captured.out, captured.err


def test_without_arguments_it_lists_the_commands(capsys):
    status, out, _ = run(capsys)
    assert status == 2
    assert all(name in out for name in COMMANDS)


def test_an_unknown_command_is_answered_with_the_nearest(capsys):
    status, _, err = run(capsys, "trian")
    assert status == 1
    assert "did you mean 'train'" in err
    assert len(err.splitlines()) == 1


@pytest.mark.parametrize(
    ("content", "nearest"),
    [({"optimizer": {"lrr": 1}}, "optimizer.lr"), ({"optimiser": {"lr": 1}}, "optimizer.lr"),
     ({"model": {"bass": 2}}, "model.bases")],
)  # fmt: skip
def test_an_unknown_key_in_a_config_names_file_and_nearest(capsys, tmp_path, content, nearest):
    config = tmp_path / "mine.yaml"
    config.write_text(yaml.safe_dump(content))
    status, _, err = run(capsys, "train", "--config", str(config), "--out", str(tmp_path / "run"))
    assert status == 2
    assert "mine.yaml: unknown option" in err
    assert f"did you mean '{nearest}'" in err
    assert len(err.splitlines()) == 1
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("arguments", "expected", "message"),
    [
        (["--optimizer.lrr", "1"], 2, "did you mean 'optimizer.lr'"),
        (["--optimizer.l", "1"], 2, "did you mean 'optimizer.lr'"),
        (["--optimizer.lr", "fast"], 2, "optimizer.lr must be a number, not fast"),
        (["--trainer.precision", "16"], 2, "one of 'fp32', 'bf16', 'fp16', not 16"),
        (["--model.nonlinearity", "prel"], 2, "not prel; did you mean 'prelu'?"),
        (["--data.crop", "[3]"], 2, "data.crop must be numbers in brackets"),
        (["--config", "nothing.yaml"], 1, "nothing.yaml: cannot be read"),
        (["--trainer.epochs", "0"], 1, "trainer.epochs must be at least 1, not 0"),
        (["--optimizer.warmup", "3"], 1, "optimizer.warmup must be at least 0 and at most 1"),
        (["--binarization.ede_temperature", "[0,1]"], 1, "must be above 0"),
        (["--model.dropout", "2"], 1, "dropout"),
    ],
)
def test_wrong_values_are_one_line(capsys, tmp_path, arguments, expected, message):
    out = tmp_path / "run"
    status, _, err = run(capsys, "train", "--data.name", "scenes", "--out", str(out), *arguments)
    assert status == expected
    assert not out.exists()
    assert message in err
    assert len(err.splitlines()) == 1


def test_a_part_of_an_option_that_has_none_is_unknown(capsys):
    for option in ("--calibration.root=data", "--calibration.root"):
        status, _, err = run(capsys, "pack", "x", "--out", "y", option, "data")
        assert status == 2
        (line,) = err.splitlines()
        assert "unknown option 'calibration.root'; --calibration takes a value" in line


def test_a_value_after_a_switch_is_named(capsys):
    status, _, err = run(capsys, "train", "--resume", "runs/a")
    assert status == 2
    (line,) = err.splitlines()
    assert "--resume takes no value, but 'runs/a' follows it; write --resume --out runs/a" in line


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"\xff\xfe\x00", "not valid YAML"), (b"model: [1, 2\n", "near line 2"), (b"", "no options"),
     (b"model:\n", "'model' has nothing under it")],
)  # fmt: skip
def test_a_faulty_config_is_named_in_one_line(capsys, tmp_path, content, message):
    config = tmp_path / "mine.yaml"
    config.write_bytes(content)
    status, _, err = run(capsys, "train", "--config", str(config), "--out", str(tmp_path / "run"))
    assert status == 1
    assert f"{config}: " in err
    assert message in err
    assert len(err.splitlines()) == 1


def test_a_missing_data_set_is_one_line(capsys, tmp_path):
    status, _, err = run(
        capsys, "train", "--out", str(tmp_path / "run"), "--data.root", str(tmp_path / "none")
    )
    assert status == 1
    assert "none" in err
    assert len(err.splitlines()) == 1


@pytest.mark.parametrize(
    "arguments",
    [
        ["--out", "{run}", "--resume"],
        ["--out={run}", "--resume"],
        ["--resume", "true", "--out={run}"],
        ["--resume=yes", "--out", "{run}"],
    ],
)
def test_resume_reads_the_runs_configuration_in_every_spelling(capsys, tmp_path, arguments):
    run_folder = tmp_path / "run"
    run_folder.mkdir()
    (run_folder / "config.yaml").write_text("optimizer: {lr: 0.125}\nmodel: {width: 24}\n")
    given = [argument.format(run=run_folder) for argument in arguments]
    status, out, err = run(capsys, "train", *given, "--print_config")
    assert status == 0, err
    found = yaml.safe_load(out)
    assert found["resume"] is True
    assert (found["optimizer"]["lr"], found["model"]["width"]) == (0.125, 24)


def test_a_switch_with_a_wrong_value_is_one_line(capsys, tmp_path):
    status, _, err = run(capsys, "train", "--resume=maybe", "--out", str(tmp_path / "run"))
    assert status == 2
    assert "--resume" in err
    assert "maybe" in err
    assert len(err.splitlines()) == 1


def test_resume_without_a_run_is_one_line(capsys, tmp_path):
    status, _, err = run(capsys, "train", "--resume", "--out", str(tmp_path / "run"))
    assert status == 1
    assert "no run to resume" in err


def test_models_lists_names_and_sources(capsys):
    status, out, _ = run(capsys, "models")
    assert status == 0
    shipped, trainable, classifiers = out.split("\n\n")
    assert shipped.startswith("shipped networks")
    names = [line.split()[0] for line in shipped.splitlines()[1:]]
    assert names == list(shipped_models())
    title, *listed = trainable.splitlines()
    assert title.startswith("architectures")
    sources = dict(line.split(maxsplit=1) for line in listed)
    assert list(sources) == list_models()
    assert sources["groupnet18_star"] == "Zhuang et al. 2019, Group-Net**"
    assert sources["smp_unet"] == "segmentation-models-pytorch"
    only = dict(line.split(maxsplit=1) for line in classifiers.splitlines()[1:])
    assert set(only) == set(list_backbones(dense=False)) - set(list_backbones())
    assert all({**sources, **only}.values())


def test_a_bare_off_in_yaml_is_explained(capsys, tmp_path):
    path = tmp_path / "a.yaml"
    path.write_text("model: {atrous: off}\n")
    assert main(["train", "--config", str(path), "--out", str(tmp_path / "run")]) == 2
    assert f'{path}: model.atrous is false; write "off" with its quotes' in capsys.readouterr().err


def test_a_missing_package_is_one_line_that_says_how_to_get_it(capsys, monkeypatch):
    def needs(name: str):
        def fail(*_, **__):
            raise ModuleNotFoundError(f"No module named '{name}'", name=name)

        monkeypatch.setattr("binseg.cli.models.models", fail)
        return run(capsys, "models")

    requirements = ['onnx>=1; extra == "dev"', "onnx>=1.18 ; extra == 'export'", "numpy>=2"]
    monkeypatch.setattr("importlib.metadata.requires", lambda _: requirements)
    for module, wanted in (
        ("onnx.helper", "pip install 'binseg[export]'"),
        ("numpy", "the package numpy"),
        ("cv2", "pip install opencv-python-headless"),
    ):
        status, _, err = needs(module)
        assert status == 1
        assert wanted in err
        assert len(err.splitlines()) == 1
    with pytest.raises(ModuleNotFoundError):  # a fault of the program is no missing package
        needs("binseg.nothing")


def test_a_killed_loader_process_is_one_line(capsys, monkeypatch):
    def fail(*_, **__):
        raise RuntimeError("DataLoader worker (pid 17) is killed by signal: Killed. ")

    monkeypatch.setattr("binseg.cli.models.models", fail)
    status, _, err = run(capsys, "models")
    assert status == 1
    assert "reads images was killed" in err
    assert len(err.splitlines()) == 1


class Terminal:
    """stdout and stderr of an encoding, as bytes."""

    def __init__(self, monkeypatch, encoding: str) -> None:
        self.bytes = io.BytesIO()
        for name in ("stdout", "stderr"):
            stream = io.TextIOWrapper(self.bytes, encoding=encoding, write_through=True)
            monkeypatch.setattr(sys, name, stream)


def test_an_ascii_terminal_gets_other_signs(monkeypatch):
    terminal = Terminal(monkeypatch, "ascii")
    monkeypatch.setattr("binseg.cli.models.models", lambda: print("2 × 3 – “café” 道 \udce9…") or 0)
    assert main(["models"]) == 0
    assert terminal.bytes.getvalue() == b'2 x 3 - "caf\\xe9" \\u9053 \\udce9...\n'
    assert main(["évaluate"]) == 1
    assert b"unknown command '\\xe9valuate'; did you mean 'evaluate'" in terminal.bytes.getvalue()


def test_names_that_are_no_text_can_be_printed(monkeypatch):
    terminal = Terminal(monkeypatch, "utf-8")
    monkeypatch.setattr("binseg.cli.models.models", lambda: print("道 caf\udce9") or 0)
    assert main(["models"]) == 0
    assert terminal.bytes.getvalue() == "道 caf\\udce9\n".encode()


def test_a_note_is_one_line(capsys, monkeypatch):
    def note() -> int:
        warnings.warn(BinsegWarning("mind the step"), stacklevel=1)
        return 0

    monkeypatch.setattr("binseg.cli.models.models", note)
    with warnings.catch_warnings():
        assert run(capsys, "models") == (0, "", "binseg: note: mind the step\n")


def test_sigterm_ends_in_order(tmp_path):
    """Temporary files are removed, as after Ctrl-C."""
    script = (
        "import os, signal, sys\n"
        "from binseg.atomic import atomic_path\n"
        "from binseg.cli import main, models\n"
        "def killed():\n"
        "    with atomic_path(sys.argv[1]):\n"
        "        os.kill(os.getpid(), signal.SIGTERM)\n"
        "models.models = killed\n"
        "main(['models'])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "file")], capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (143, "")
    assert list(tmp_path.iterdir()) == []


CONFIGS = sorted(Path(__file__).parents[2].glob("configs/**/*.yaml"))

TRAINED = [path for path in CONFIGS if path.parent.name not in ("compare", "pretrain")]


@pytest.mark.parametrize("path", TRAINED, ids=lambda p: f"{p.parent.name}/{p.name}")
def test_every_shipped_config_builds_its_network(capsys, path):
    """`--print_config` runs the whole parser; the network is built from what it prints."""
    from binseg.nn.segmenter import create_model
    from binseg.training.config import ModelConfig

    status, out, err = run(
        capsys, "train", "--config", str(path), "--out", "somewhere", "--print_config"
    )
    assert status == 0, err
    settings = yaml.safe_load(out)["model"]
    model = create_model(**ModelConfig(**settings).arguments(num_classes=5))
    assert model.num_classes == 5


@pytest.mark.parametrize("path", CONFIGS, ids=lambda p: f"{p.parent.name}/{p.name}")
def test_every_key_of_a_shipped_config_has_a_comment(path):
    for line in path.read_text().splitlines():
        if line.startswith(" ") and not line.strip().startswith("#"):
            assert "#" in line, line


def test_there_are_configs():
    assert CONFIGS
