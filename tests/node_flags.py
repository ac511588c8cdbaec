"""Node, in which the tests run WebAssembly."""

import shutil
import subprocess
from functools import cache


@cache
def node_flags() -> list[str]:
    """What makes this node read relaxed instructions, which newer ones do by themselves."""
    flag = "--experimental-wasm-relaxed-simd"
    if shutil.which("node") is None:
        return []
    known = subprocess.run(["node", flag, "--eval", "0"], capture_output=True, check=False)
    return [flag] if known.returncode == 0 else []
