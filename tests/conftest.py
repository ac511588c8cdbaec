"""What every test leaves as it found it."""

from collections.abc import Iterator

import pytest
import torch


@pytest.fixture(autouse=True)
def same_threads() -> Iterator[None]:
    """Trainings set torch's number of threads, on which the last bits of later results depend."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)
