"""What holds for every test: one thread, torch as it was found."""

import multiprocessing.util
import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from functools import partial

import pytest

# Before anything imports torch, here or in a process that a test starts. The last bits of results
# depend on the number of threads, and threads of two processes on two cores wait for one another.
os.environ["OMP_NUM_THREADS"] = "1"


# a shell's background jobs have Ctrl-C ignored, and what tests start inherits that
with suppress(ValueError):  # not in the main thread
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_configure(config: pytest.Config) -> None:
    """Temporary files of tests, of processes that they start and of libraries that forget theirs
    (gradio's client does) lie in a folder that is deleted; the tests' own stay where pytest keeps
    them. Before anything is imported: some libraries look for the place only once."""
    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", tempfile.gettempdir())
    folder = tempfile.mkdtemp(prefix="binseg-tests-")
    config.add_cleanup(partial(shutil.rmtree, folder, ignore_errors=True))
    # multiprocessing removes its own folder in there; it would not find it at the program's end
    config.add_cleanup(multiprocessing.util._run_finalizers)
    os.environ["TMPDIR"] = tempfile.tempdir = folder


@pytest.fixture(autouse=True)
def same_threads() -> Iterator[None]:
    """Trainings set torch's number of threads, on which the last bits of later results depend."""
    import torch

    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)
