"""AMX is used only where signals have room for its registers."""

import subprocess
import sys

import pytest

from binseg.runtime.library import isas

# Handlers get a stack of so many bytes, as CPython's faulthandler gives them one.
_ON_A_STACK = """
import ctypes, sys

class Stack(ctypes.Structure):
    _fields_ = [("at", ctypes.c_void_p), ("flags", ctypes.c_int), ("size", ctypes.c_size_t)]

size = int(sys.argv[1])
room = ctypes.create_string_buffer(size)
stack = Stack(ctypes.addressof(room), 0, size)
assert ctypes.CDLL(None).sigaltstack(ctypes.byref(stack), None) == 0
from binseg.runtime.library import isas
print(*isas())
"""


@pytest.mark.parametrize(("size", "used"), [(16384, False), (65536, True)])
def test_a_small_signal_stack_rules_tiles_out(size: int, used: bool) -> None:
    if "amx" not in isas():
        pytest.skip("this processor has no amx")
    done = subprocess.run(
        [sys.executable, "-c", _ON_A_STACK, str(size)], capture_output=True, text=True, check=True
    )
    assert ("amx" in done.stdout.split()) == used
