"""Shares, decisions and devices; real processes are in the tests of commands and of training."""

import pytest
import torch

from binseg.distributed.processes import ALONE, Processes, digest, joined
from binseg.errors import BinsegError


class Store(dict):
    """The part of torch's stores that is used, in one process."""

    set = dict.__setitem__
    get = dict.__getitem__

    def check(self, keys: list[str]) -> bool:
        return all(key in self for key in keys)


@pytest.mark.parametrize("size", [1, 2, 5])
@pytest.mark.parametrize("length", [0, 1, 7])
def test_shares_hold_each_image_once(size, length):
    shares = [list(Processes(rank, size).share(length)) for rank in range(size)]
    assert sorted(place for share in shares for place in share) == list(range(length))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_alone():
    with joined() as processes:
        assert processes is ALONE
        assert processes.is_first
        assert processes.gather("part") == ["part"]
        assert processes.decided("what", lambda: [1, None]) == [1, None]
        processes.agree("data", {"images": 3})


def test_process_0_decides_each_time_anew():
    store = Store()
    first, second = Processes(0, 2, store), Processes(1, 2, store)
    assert [first.decided("run", lambda n=n: n) for n in (1, 2)] == [1, 2]
    assert [second.decided("run", lambda: pytest.fail("decided twice")) for _ in range(2)] == [1, 2]


def test_what_differs_is_named():
    store = Store()
    Processes(0, 2, store).agree("data", {"classes": ["a"], "images": (1, 2), "seed": 0})
    other = Processes(1, 2, store)
    with pytest.raises(
        BinsegError, match=r"process 1 .* other data than process 0: classes, more;"
    ):
        other.agree("data", {"classes": ["b"], "images": [1, 2], "seed": 0, "more": 1})


def test_a_digest_knows_order_and_boundaries():
    names = ["ab", "c", "caf\udce9"]
    assert digest(names) == digest(iter(names))
    assert len({digest(names), digest(names[::-1]), digest(["a", "bc", names[2]])}) == 3


def test_gpus_are_dealt_out(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert [Processes(rank, 3).device("auto") for rank in range(3)] == [
        "cuda:0",
        "cuda:1",
        "cuda:0",
    ]
    assert Processes(2, 3).device("cpu") == "cpu"
    assert ALONE.device("auto") == "auto"
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    assert Processes(1, 3).device("auto") == "auto"
