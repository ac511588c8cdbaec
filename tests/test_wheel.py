"""The wheel runs packed networks in an environment without torch, OpenCV and gradio."""

import importlib.metadata
import json
import os
import re
import shutil
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import numpy as np
import pytest
from small_packed import halves, write_small_packed

from binseg.data.imageio import read_mask, write_image
from binseg.runtime.build import FOLDER, NAME, BuildError, build
from binseg.shipped import shipped_models
from binseg.shipped_configs import shipped_configs

ROOT = Path(__file__).parents[1]
LARGEST = 150e6
SOURCES = ("binseg", "configs", "pyproject.toml", "setup.py", "MANIFEST.in", "README.md", "LICENSE")
"""What a wheel is made of."""
HEAVY = ("torch", "cv2", "gradio", "matplotlib", "lightning", "albumentations")


def run(*command, status=0, **options):
    """A command without this checkout on its path; its output."""
    environment = {
        key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "CXX", "CC")
    }
    done = subprocess.run(
        list(map(str, command)),
        capture_output=True,
        text=True,
        check=False,
        **{"env": environment, **options},
    )
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout + done.stderr


def build_wheel(folder, **options):
    """The wheel of a copy of the sources, so that the checkout stays as it is."""
    source = folder / "source"
    folders, files = SOURCES[:2], SOURCES[2:]
    for name in folders:
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, source / name, ignore=ignored)
    for name in files:
        shutil.copy2(ROOT / name, source)
    if options.pop("with_library", True):  # not compiled again: it is what is tested elsewhere
        (source / "build" / "runtime").mkdir(parents=True)
        for name in (NAME, "sources.sha256"):
            shutil.copy2(FOLDER / name, source / "build" / "runtime")
    run(
        *(sys.executable, "-m", "pip", "wheel", source, "--wheel-dir", folder),
        *("--no-deps", "--no-build-isolation", "--disable-pip-version-check"),
        **options,
    )
    (wheel,) = folder.glob("*.whl")
    return wheel


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    try:
        build()
    except BuildError as error:
        pytest.skip(str(error))
    return build_wheel(tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """An environment with the wheel and what it needs, and nothing else."""
    folder = tmp_path_factory.mktemp("environment") / "venv"
    venv.create(folder, with_pip=False)
    run(
        *(sys.executable, "-m", "pip", "--python", folder / "bin" / "python", "install"),
        *("--quiet", "--disable-pip-version-check", wheel),
    )
    return folder


def test_what_is_in_the_wheel(wheel):
    assert re.fullmatch(r"binseg-[\d.]+-py3-none-(linux|macosx)_\w+\.whl", wheel.name)
    names = set(zipfile.ZipFile(wheel).namelist())
    wanted = {f"binseg/runtime/{NAME}"}
    wanted |= {f"binseg/models/{model.path.name}" for model in shipped_models().values()}
    wanted |= {f"binseg/configs/{name}.yaml" for name in shipped_configs()}
    sources = [path for path in (ROOT / "binseg").rglob("*.cu*") if path.is_file()]
    assert sources
    wanted |= {path.relative_to(ROOT).as_posix() for path in sources}
    assert not wanted - names
    assert not [name for name in names if name.startswith(("tests", "tools", "build"))]


def test_without_a_compiler_the_wheel_is_for_all_platforms(tmp_path):
    nothing = {"PATH": str(Path(sys.executable).parent), "CXX": "/nowhere/c++"}
    wheel = build_wheel(tmp_path, with_library=False, env=nothing)
    assert wheel.name.endswith("-py3-none-any.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert not [name for name in names if name.endswith((".so", ".dylib", ".dll"))]
    assert "binseg/program/interpreter.py" in names


@pytest.mark.slow
def test_a_packed_network_runs_in_an_empty_environment(installed, tmp_path):
    binaries = installed / "bin"
    python, command = binaries / "python", binaries / "binseg"
    script = f"import importlib.util as u; print([m for m in {HEAVY} if u.find_spec(m)])"
    assert run(python, "-c", script, cwd=tmp_path) == "[]\n"
    size = sum(path.stat().st_size for path in installed.rglob("*") if not path.is_symlink())
    assert size < LARGEST

    model, image = write_small_packed(tmp_path / "m.safetensors", 24), tmp_path / "street.png"
    write_image(image, halves(50, 70))
    said = run(command, "predict", model, image, "--out", tmp_path / "out", cwd=tmp_path)
    record = json.loads(said)  # and no warning of a missing library
    assert record["shares"] == {"dark": 0.5, "bright": 0.5}
    found = read_mask(tmp_path / "out" / "street.png")
    np.testing.assert_array_equal(found, halves(50, 70)[..., 0] > 127)
    assert (tmp_path / "out" / "street_overlay.jpg").is_file()


@pytest.mark.slow
def test_light_commands_in_an_empty_environment(installed, tmp_path):
    command = installed / "bin" / "binseg"
    model = write_small_packed(tmp_path / "m.safetensors")
    assert importlib.metadata.version("binseg") in run(command, "--version", cwd=tmp_path)
    doctor = run(command, "doctor", cwd=tmp_path)
    assert "libbinseg is equal to the reference" in doctor
    assert "everything needed works" in doctor
    summary = run(command, "summary", model, "--json", tmp_path / "s.json", cwd=tmp_path)
    assert "conv_real" in summary
    total = json.loads((tmp_path / "s.json").read_text())["total"]
    assert total["binary_parameters"] == 2 * 8
    assert total["binary_macs"] == 2 * 8 * 480 * 640
    assert total["real_macs"] == 3 * 8 * 480 * 640
    assert "camvid-small" in run(command, "models", cwd=tmp_path)
    assert "camvid/groupnet18_bpac" in run(command, "config", "ls", cwd=tmp_path)
    run(command, "config", "cp", "camvid/groupnet18_bpac", cwd=tmp_path)
    copied = (tmp_path / "groupnet18_bpac.yaml").read_bytes()
    assert copied == shipped_configs()["camvid/groupnet18_bpac"].read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "extra"),
    [
        (("train", "--config", "scenes/groupnet18_bpac", "--out", "run"), "train"),
        (("evaluate", "camvid-small"), "train"),
        (("predict", "{model}", "{image}", "--out", "o", "--protocol.name", "sliding"), "train"),
        (("demo",), "demo"),
    ],
    ids=lambda value: value if isinstance(value, str) else value[0],
)
def test_a_missing_extra_is_one_line(installed, tmp_path, arguments, extra):
    model, image = write_small_packed(tmp_path / "m.safetensors"), tmp_path / "a.png"
    write_image(image, halves(8, 8))
    arguments = [text.format(model=model, image=image) for text in arguments]
    said = run(installed / "bin" / "binseg", *arguments, status=1, cwd=tmp_path)
    assert len(said.splitlines()) == 1
    assert said.startswith("binseg: error: this needs the package ")
    assert said.endswith(f"pip install 'binseg[{extra}]'\n")
