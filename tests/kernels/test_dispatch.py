"""Which backend runs, and what happens where the kernels do not."""

import warnings

import pytest
import torch

from binseg.errors import BinsegError
from binseg.kernels import cpu, cuda, dispatch, isa, ops, reference
from binseg.kernels.build import BuildError

CPU = torch.device("cpu")
FULL = frozenset(flag for needed in isa.NEEDED.values() for flag in needed)


@pytest.fixture(autouse=True)
def nothing_asked(monkeypatch):
    monkeypatch.delenv(dispatch.ENVIRONMENT, raising=False)
    monkeypatch.setattr(dispatch, "_warned", set())


@pytest.fixture
def broken(monkeypatch):
    """A machine without a compiler."""

    def fail(*arguments):
        raise BuildError("no compiler")

    monkeypatch.setattr(cpu, "backend", fail)
    monkeypatch.setattr(cuda, "backend", fail)


def test_an_unknown_name_in_the_environment_is_told_with_the_nearest(monkeypatch):
    monkeypatch.setenv(dispatch.ENVIRONMENT, "avx521")
    with pytest.raises(BinsegError, match=r"in BINSEG_ISA 'avx521'; did you mean 'avx512'\?"):
        ops.pack_sign(torch.zeros(1, 1, 1, 1, 3))


def test_an_unknown_name_in_the_code_is_told():
    with pytest.raises(BinsegError, match="unknown backend 'sse9'"), dispatch.use("sse9"):
        pass


def test_an_empty_environment_asks_for_nothing(monkeypatch):
    monkeypatch.setenv(dispatch.ENVIRONMENT, "")
    assert dispatch.asked() is None


def test_use_holds_inside_the_block_and_is_stronger_than_the_environment(monkeypatch):
    monkeypatch.setenv(dispatch.ENVIRONMENT, "portable")
    with dispatch.use("reference"):
        assert dispatch.backend_of(CPU) is reference
        with dispatch.use("avx2"):
            assert dispatch.asked() == "avx2"
        assert dispatch.asked() == "reference"
    assert dispatch.asked() == "portable"


def test_the_backend_asked_for_is_the_one_that_runs(monkeypatch):
    calls = []
    monkeypatch.setattr(cpu, "backend", lambda name: calls.append(name) or reference)
    dispatch.backend_of(CPU)
    with dispatch.use("portable"):
        dispatch.backend_of(CPU)
    assert calls == [None, "portable"]


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_without_kernels_the_reference_serves_with_one_warning(broken, device):
    with warnings.catch_warnings(record=True) as caught:
        # the filter that shows a warning each time, so that only dispatch can keep it to one
        warnings.simplefilter("always")
        for _ in range(3):
            assert dispatch.backend_of(torch.device(device)) is reference
    (warning,) = caught
    text = str(warning.message)
    assert device in text
    assert "no compiler" in text
    assert "binseg doctor" in text
    assert len(text.splitlines()) == 1


def test_operators_give_right_results_without_kernels(broken):
    with pytest.warns(RuntimeWarning, match="no compiler"):
        packed = ops.pack_sign(torch.tensor([-1.0, 2.0, 0.0]).view(1, 1, 1, 1, 3))
    assert packed.item() == 0b110


def test_a_backend_asked_for_by_name_is_not_replaced(broken, monkeypatch):
    with pytest.raises(BuildError, match="no compiler"), dispatch.use("avx2"):
        dispatch.backend_of(CPU)
    monkeypatch.setenv(dispatch.ENVIRONMENT, "portable")
    with pytest.raises(BuildError, match="no compiler"):
        dispatch.backend_of(CPU)


def test_the_reference_asks_for_no_kernels(broken):
    with warnings.catch_warnings(), dispatch.use("reference"):
        warnings.simplefilter("error")
        assert dispatch.backend_of(CPU) is reference


def test_other_devices_run_the_reference(broken):
    assert dispatch.backend_of(torch.device("meta")) is reference


def test_a_set_this_processor_lacks_is_refused():
    missing = next(name for name in ("neon", "avx2") if name not in isa.supported())
    with pytest.raises(BuildError, match=f"'{missing}'"), dispatch.use(missing):
        dispatch.backend_of(CPU)


@pytest.mark.parametrize(
    ("machine", "flags", "expected"),
    [
        ("x86_64", FULL, ("portable", "avx2", "avx512")),
        ("AMD64", FULL, ("portable", "avx2", "avx512")),
        ("x86_64", FULL - {"avx512_vpopcntdq"}, ("portable", "avx2")),
        ("x86_64", FULL - {"avx512_vnni"}, ("portable", "avx2")),
        ("x86_64", FULL - {"fma"}, ("portable", "avx512")),
        ("x86_64", frozenset(), ("portable",)),
        ("aarch64", frozenset(), ("portable", "neon")),
        ("arm64", frozenset(), ("portable", "neon")),
        ("riscv64", FULL, ("portable",)),
    ],
)
def test_a_processor_runs_what_it_has_all_flags_for(machine, flags, expected):
    assert isa.choose(machine, flags) == expected


def test_flags_are_read_from_the_line_of_that_name():
    text = (
        "processor\t: 0\nmodel name\t: Some: CPU\nvmx flags\t: avx512f\nflags\t\t: fpu avx2 fma\n"
    )
    assert isa._flags(text) == {"fpu", "avx2", "fma"}
    assert isa._field("model name", text) == "Some: CPU"
    assert isa._flags("") == set()


def test_every_set_this_processor_has_is_a_known_backend():
    assert isa.supported()[0] == "portable"
    assert set(isa.supported()) <= set(dispatch.CPU_BACKENDS)
