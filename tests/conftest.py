"""What holds for every test: one thread, torch as it was found."""

import os
import signal
import tempfile
from collections.abc import Iterator
from contextlib import suppress

import pytest

# Before anything imports torch, here or in a process that a test starts. The last bits of results
# depend on the number of threads, and threads of two processes on two cores wait for one another.
os.environ["OMP_NUM_THREADS"] = "1"


# a shell's background jobs have Ctrl-C ignored, and what tests start inherits that
with suppress(ValueError):  # not in the main thread
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session", autouse=True)
def temporary_folder(tmp_path_factory) -> Iterator[None]:
    """Temporary files of tests, of processes that they start and of libraries that forget theirs
    (gradio's client does) lie where pytest deletes them."""
    folder = tmp_path_factory.mktemp("temporary")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TMPDIR", str(folder))
        patch.setattr(tempfile, "tempdir", str(folder))
        yield


@pytest.fixture(autouse=True)
def same_threads() -> Iterator[None]:
    """Trainings set torch's number of threads, on which the last bits of later results depend."""
    import torch

    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)
