"""AMX is used only where signals have room for its registers."""

import subprocess
import sys

import pytest

from binseg.runtime.library import isas

_ISAS = "from binseg.runtime.library import isas; print(*isas())"


@pytest.mark.parametrize(("start", "used"), [("", True), ("faulthandler", False)])
def test_a_small_signal_stack_rules_tiles_out(start: str, used: bool) -> None:
    if "amx" not in isas():
        pytest.skip("this processor has no amx")
    options = ["-X", start] if start else []
    done = subprocess.run(
        [sys.executable, *options, "-c", _ISAS], capture_output=True, text=True, check=True
    )
    assert ("amx" in done.stdout.split()) == used
