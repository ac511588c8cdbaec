"""binseg-run for 64-bit ARM: cross-compiled by the same CMake, run under qemu-user."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from binseg.data.scenes import draw_scene
from binseg.runtime.build import SOURCES
from binseg.runtime.library import Network
from binseg.shipped import resolve

COMPILER, EMULATOR = "aarch64-linux-gnu-g++", "qemu-aarch64"


@pytest.fixture(scope="module")
def command(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The program, without shared libraries."""
    for tool in (COMPILER, EMULATOR):
        if shutil.which(tool) is None:
            pytest.skip(f"no {tool} here")
    beside = Path(sys.executable).parent
    cmake = shutil.which("cmake", path=f"{beside}{os.pathsep}{os.environ['PATH']}")
    assert cmake is not None
    folder = tmp_path_factory.mktemp("aarch64")
    configure = [
        *(cmake, "-S", str(SOURCES), "-B", str(folder)),
        *("-DCMAKE_SYSTEM_NAME=Linux", "-DCMAKE_SYSTEM_PROCESSOR=aarch64"),
        *(f"-DCMAKE_CXX_COMPILER={COMPILER}", "-DCMAKE_EXE_LINKER_FLAGS=-static"),
    ]
    build = [cmake, "--build", str(folder), "--target", "binseg-run", "--parallel", "2"]
    for step in (configure, build):
        done = subprocess.run(step, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return folder / "binseg-run"


@pytest.mark.slow
@pytest.mark.parametrize("isa", ["neon", "portable"])
def test_class_maps_are_those_of_this_processor(command: Path, tmp_path: Path, isa: str) -> None:
    model = resolve("camvid-small")
    image = draw_scene(3, 0, (97, 131)).image
    (tmp_path / "image.ppm").write_bytes(b"P6 131 97 255\n" + image.tobytes())
    done = subprocess.run(
        [EMULATOR, command, model, tmp_path / "image.ppm", tmp_path / "classes.pgm"],
        env={**os.environ, "BINSEG_ISA": isa},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    header, _, pixels = (tmp_path / "classes.pgm").read_bytes().partition(b"255\n")
    assert header.split() == [b"P5", b"131", b"97"]
    found = np.frombuffer(pixels, np.uint8).reshape(97, 131)
    np.testing.assert_array_equal(found, Network(model.read_bytes()).segment(image))
