"""The idle check, with counters made up."""

import os

import pytest

from binseg.bench import idle
from binseg.bench.idle import Load, Watch, check_idle
from binseg.errors import BinsegError


class Machine:
    """Files like those of /proc: two cores, hundred ticks a second."""

    def __init__(self, folder) -> None:
        self.folder = folder
        (folder / "self").mkdir()
        self.others = self.own = self.free = 0
        self.average = 0.1
        self.write()

    def write(self) -> None:
        busy = self.others + self.own
        cpu = f"cpu  {busy - self.others // 2} 0 {self.others // 2} {self.free} 5 0 0 0 0 0"
        (self.folder / "stat").write_text(f"{cpu}\ncpu0 1 2\ncpu1 1 2\nintr 7\n")
        fields = ["1", "(a (strange) name)", "R", *["0"] * 10, str(self.own), "0", "0", "0", "9"]
        (self.folder / "self" / "stat").write_text(" ".join(fields))
        (self.folder / "loadavg").write_text(f"{self.average} 0.2 0.3 1/99 12345\n")

    def work(self, *, others: int = 0, own: int = 0, seconds: float = 1.0) -> None:
        self.others += others
        self.own += own
        self.free += int(200 * seconds) - others - own
        self.write()


@pytest.fixture
def machine(tmp_path):
    return Machine(tmp_path)


def test_own_work_does_not_count(machine):
    watch = Watch(machine.folder)
    machine.work(own=100)
    load = watch.load()
    assert load.others == 0
    assert load.average == 0.1
    assert load.cores == os.cpu_count()
    assert not load.faults


@pytest.mark.parametrize(("ticks", "cores"), [(200, 2.0), (100, 1.0), (10, 0.1)])
def test_others_work_is_told_in_cores(machine, ticks, cores):
    watch = Watch(machine.folder)
    machine.work(others=ticks)
    assert watch.load().others == pytest.approx(cores)


def test_a_busy_machine_is_refused_unless_forced(machine, monkeypatch):
    monkeypatch.setattr(idle.time, "sleep", lambda _: machine.work(others=100))
    with pytest.raises(BinsegError, match=r"other processes keep 1\.00 cores busy.*--force"):
        check_idle(force=False, proc=machine.folder)
    load = check_idle(force=True, proc=machine.folder)
    assert load.to_dict()["others"] == pytest.approx(1.0)
    assert load.to_dict()["idle"] is False


def test_an_idle_machine_passes(machine, monkeypatch):
    monkeypatch.setattr(idle.time, "sleep", lambda _: machine.work(others=2))
    assert check_idle(force=False, proc=machine.folder).to_dict()["idle"] is True


def test_a_high_load_average_is_a_fault():
    assert not Load(0.0, 2.0, 2, 0.5).faults
    assert "load average is 2.10" in Load(0.0, 2.1, 2, 0.5).faults[0]


def test_where_there_is_no_proc_nothing_is_claimed(tmp_path):
    load = Watch(tmp_path / "nowhere").load()
    assert (load.others, load.average, load.faults) == (None, None, [])
