"""binseg-run: a network without Python."""

import subprocess
from pathlib import Path

import numpy as np
import pytest
from model_files import small_file

from binseg.runtime.build import build
from binseg.runtime.library import Network


@pytest.fixture(scope="module")
def command() -> Path:
    return build().parent / "binseg-run"


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("model") / "model.safetensors"
    path.write_bytes(small_file(short_side=20))
    return path


def ppm(image: np.ndarray, comment: str = "") -> bytes:
    return f"P6\n{comment}{image.shape[1]} {image.shape[0]}\n255\n".encode() + image.tobytes()


def run(*arguments, stdin: bytes = b"") -> subprocess.CompletedProcess:
    return subprocess.run(list(map(str, arguments)), input=stdin, capture_output=True, check=False)


IMAGE = np.random.default_rng(4).integers(0, 256, (31, 43, 3), dtype=np.uint8)


def test_the_class_map_is_pythons(command, model, tmp_path):
    source, target = tmp_path / "in.ppm", tmp_path / "out.pgm"
    source.write_bytes(ppm(IMAGE, "# a comment\n"))
    done = run(command, "--threads", 2, model, source, target)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    expected = Network(model.read_bytes()).segment(IMAGE)
    assert target.read_bytes() == b"P5\n43 31\n255\n" + expected.tobytes()
    assert [path.name for path in tmp_path.iterdir() if path.name.endswith(".part")] == []


def test_the_profile_names_all_operators(command, model):
    network = Network(model.read_bytes())
    done = run(command, "--profile", model, "-", "-", stdin=ppm(IMAGE))
    lines = done.stderr.decode().splitlines()
    names = [name for name, _ in network.operator_times(IMAGE)]
    assert [line.split()[1] for line in lines[:-1]] == names
    assert lines[-1].split()[0] == network.isa
    assert float(lines[-1].split()[1]) > 0
    assert done.stdout == run(command, model, "-", "-", stdin=ppm(IMAGE)).stdout


def test_standard_streams(command, model, tmp_path):
    done = run(command, model, "-", "-", stdin=ppm(IMAGE))
    expected = Network(model.read_bytes()).segment(IMAGE)
    assert done.returncode == 0
    assert done.stdout == b"P5\n43 31\n255\n" + expected.tobytes()


@pytest.mark.parametrize(
    ("stdin", "words"),
    [
        (b"", "no binary PPM"),
        (b"\x89PNG\r\n", "no binary PPM"),
        (b"P6\n4 4\n255\n" + b"\0" * 47, "cut short"),
        (b"P6\n0 4\n255\n", "damaged"),
        (b"P6\n99999999999999999999 4\n255\n", "damaged"),
        (b"P6\n4 4\n65535\n" + b"\0" * 96, "8 bits"),
        (b"P6", "damaged"),
        (b"P6\n#", "damaged"),
        (b"P6\n999999 999999\n255\n", "cut short"),
    ],
)
def test_images_that_are_none(command, model, stdin, words):
    done = run(command, model, "-", "-", stdin=stdin)
    assert done.returncode == 1
    assert done.stdout == b""
    assert words in done.stderr.decode()
    assert done.stderr.count(b"\n") == 1


def test_faults_name_the_file(command, model, tmp_path):
    source = tmp_path / "in.ppm"
    source.write_bytes(ppm(IMAGE))
    for arguments, words in (
        ((tmp_path / "none", source, "-"), "none"),
        ((source, source, "-"), "in.ppm: "),
        ((model, tmp_path / "none.ppm", "-"), "none.ppm"),
        ((model, source, tmp_path / "no" / "out.pgm"), "out.pgm"),
        ((model, source), "takes MODEL IN OUT"),
        (("--fast", model, source, "-"), "--fast"),
        (("--threads", "0", model, source, "-"), "--threads"),
    ):
        done = run(command, *arguments)
        assert done.returncode == 1
        assert words in done.stderr.decode()
        assert done.stderr.count(b"\n") == 1


def test_help(command):
    done = run(command, "--help")
    assert done.returncode == 0
    assert done.stdout.startswith(b"usage: binseg-run")
