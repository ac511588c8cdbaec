"""Damaged model files against libbinseg under AddressSanitizer and UndefinedBehaviorSanitizer.

    python tools/fuzz_model_files.py [--count 10000] [--seed 0] [--isa NAME] [MODEL …]

Builds the library with the sanitizers, damages files of random programs, and of models if some are
named, in `--count` ways, corrects their checksums, and lets a driver open and run each. The first
fault ends it; the file that brought it about is kept.
"""

import argparse
import struct
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests"), str(ROOT / "tests" / "runtime")]

from model_files import model_file, small_programs  # noqa: E402
from mutations import mutations  # noqa: E402
from random_programs import random_program  # noqa: E402

from binseg.runtime.build import SOURCES  # noqa: E402

FOLDER = ROOT / "build" / "sanitize"
PIECE = 250
"""Files for one run of the driver."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--count", type=int, default=10_000, help="number of files")
    parser.add_argument("--seed", type=int, default=0, help="of the damage")
    parser.add_argument("--isa", help="instruction set (default: the best)")
    parser.add_argument("models", nargs="*", type=Path, help="packed networks to be damaged, too")
    arguments = parser.parse_args()
    driver = build()
    files = [model_file(random_program(seed)[0]) for seed in range(8)]
    files += [
        model_file(program, [None, 30][seed % 2])
        for seed in range(16)
        for program in small_programs(seed)
    ]
    files += [path.read_bytes() for path in arguments.models]
    begun, opened, ran = time.monotonic(), 0, 0
    for first in range(0, arguments.count, PIECE):
        number = min(PIECE, arguments.count - first)
        damaged = list(mutations(files, number, arguments.seed * 1_000_003 + first))
        more_opened, more_ran = run(driver, damaged, arguments.isa)
        opened, ran = opened + more_opened, ran + more_ran
        done = first + number
        left = (time.monotonic() - begun) / done * (arguments.count - done)
        print(f"\r{done} files, {opened} opened, {ran} ran, {left:.0f} s left ", end="", flush=True)
    print("\nno fault")


def build() -> Path:
    """The driver, with the sanitizers."""
    configure = ["cmake", "-S", SOURCES, "-B", FOLDER, "-DBINSEG_SANITIZE=ON"]
    for command in (configure, ["cmake", "--build", FOLDER, "--target", "binseg-fuzz"]):
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return FOLDER / "binseg-fuzz"


def run(driver: Path, files: list[bytes], isa: str | None) -> tuple[int, int]:
    """How many opened and ran; ends the process at a fault."""
    done = _drive(driver, files, isa)
    if done.returncode == 0:
        _, opened, ran = map(int, done.stdout.split())
        return opened, ran
    for file in files:  # which of them was it?
        alone = _drive(driver, [file], isa)
        if alone.returncode:
            kept = FOLDER / "fault.safetensors"
            kept.write_bytes(file)
            sys.exit(f"\n{alone.stderr.decode(errors='replace')}\nthe file is kept: {kept}")
    sys.exit(f"\n{done.stderr.decode(errors='replace')}\n(no file brings it about alone)")


def _drive(driver: Path, files: list[bytes], isa: str | None) -> subprocess.CompletedProcess:
    stream = b"".join(struct.pack("<Q", len(file)) + file for file in files)
    command = [driver, *([] if isa is None else [isa])]
    return subprocess.run(command, input=stream, capture_output=True, check=False)


if __name__ == "__main__":
    main()
