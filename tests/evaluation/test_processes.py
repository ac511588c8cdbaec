"""Shares, faults and devices; two real processes are in tests/cli/test_evaluate_predict.py."""

import pytest
import torch

from binseg.evaluation.processes import ALONE, Processes, joined


class Store(dict):
    """The part of torch's stores that is used, in one process."""

    def add(self, key: str, amount: int) -> int:
        self[key] = self.get(key, 0) + amount
        return self[key]

    def check(self, keys: list[str]) -> bool:
        return all(key in self for key in keys)


@pytest.mark.parametrize("size", [1, 2, 5])
@pytest.mark.parametrize("length", [0, 1, 7])
def test_shares_hold_each_picture_once(size, length):
    shares = [list(Processes(rank, size).share(length)) for rank in range(size)]
    assert sorted(place for share in shares for place in share) == list(range(length))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_alone():
    with joined() as processes:
        assert processes is ALONE
        processes.stop_if_failed()
        assert processes.gather("part") == ["part"]
        assert processes.fail()


def test_only_the_first_fault_is_told_and_all_stop():
    store = Store()
    first, second = Processes(0, 2, store), Processes(1, 2, store)
    first.stop_if_failed()
    assert second.fail()
    assert not first.fail()
    with pytest.raises(SystemExit):
        first.stop_if_failed()
    with pytest.raises(SystemExit):  # and does not wait for a process that never comes
        first.gather(None)


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
