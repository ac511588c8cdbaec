"""How the command line answers."""

from pathlib import Path

import pytest
import yaml

from binseg.cli import main
from binseg.cli.main import COMMANDS
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


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_with_defaults(capsys, name):
    status, out, _ = run(capsys, *name.split(), "--help")
    assert status == 0
    assert f"usage: binseg {name}" in out


def test_train_help_tells_defaults_and_meanings(capsys):
    _, out, _ = run(capsys, "train", "--help")
    assert "default: 0.001" in out
    assert "peak learning rate" in " ".join(out.split())


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
        (["--trainer.precision", "16"], 2, "one of 'fp32', 'bf16', not 16"),
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


def test_resume_without_a_run_is_one_line(capsys, tmp_path):
    status, _, err = run(capsys, "train", "--resume", "--out", str(tmp_path / "run"))
    assert status == 1
    assert "no run to resume" in err


def test_models_lists_names_and_sources(capsys):
    status, out, _ = run(capsys, "models")
    assert status == 0
    shipped, _, trainable = out.partition("\nto be trained:\n")
    names = [line.split()[0] for line in shipped.splitlines()[1:]]
    assert names == list(shipped_models())
    listed, _, classifiers = trainable.partition("\nfor binseg pretrain only:\n")
    sources = dict(line.split(maxsplit=1) for line in listed.splitlines())
    assert list(sources) == list_models()
    assert sources["groupnet18_star"] == "Zhuang et al. 2019, Group-Net**"
    assert sources["smp_unet"] == "segmentation-models-pytorch"
    only = dict(line.split(maxsplit=1) for line in classifiers.splitlines())
    assert set(only) == set(list_backbones(dense=False)) - set(list_backbones())
    assert all({**sources, **only}.values())


def test_a_bare_off_in_yaml_is_explained(capsys, tmp_path):
    path = tmp_path / "a.yaml"
    path.write_text("model: {atrous: off}\n")
    assert main(["train", "--config", str(path), "--out", str(tmp_path / "run")]) == 2
    assert f'{path}: model.atrous is false; write "off" with its quotes' in capsys.readouterr().err


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
