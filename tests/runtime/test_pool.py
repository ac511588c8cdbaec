"""The library's threads are there when they are needed, and asleep when they are not."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from model_files import small_file

from binseg.runtime.library import Network

IMAGE = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)

STATES = """
import sys, time
from pathlib import Path
import numpy as np
from binseg.runtime.library import Network

def states():
    return [(task / "stat").read_text().rpartition(")")[2].split()[0]
            for task in Path("/proc/self/task").iterdir()]

network = Network(Path(sys.argv[1]).read_bytes())
before = len(states())
network.threads = 4
network.segment(np.zeros((64, 64, 3), np.uint8))
time.sleep(0.2)
found = states()
print(len(found) - before, "".join(sorted(found)).count("S"))
network.threads = 1
print(len(states()) - before)
del network
"""


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="needs Linux")
def test_threads_start_when_needed_sleep_when_idle_and_end(tmp_path):
    path = tmp_path / "model.safetensors"
    path.write_bytes(small_file())
    done = subprocess.run(
        [sys.executable, "-c", STATES, path], capture_output=True, text=True, check=True
    )
    more, asleep, rest = map(int, done.stdout.split())
    assert more == 3
    assert asleep >= 3
    assert rest == 0


def test_many_numbers_of_threads_one_after_the_other():
    network = Network(small_file())
    expected = network.segment(IMAGE)
    for threads in (2, 7, 1, 64, 3, 2):
        network.threads = threads
        for _ in range(30):
            np.testing.assert_array_equal(network.segment(IMAGE), expected)


def test_networks_come_and_go():
    file = small_file()
    expected = Network(file).segment(IMAGE)
    for _ in range(40):
        np.testing.assert_array_equal(Network(file, threads=3).segment(IMAGE), expected)
