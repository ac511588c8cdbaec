"""How the threads of OpenMP wait for one another."""

import os

_SETTINGS = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")


def sleep_at_barriers() -> None:
    """Let waiting threads sleep, unless the user's environment already says how they wait.

    GNU's OpenMP spins at the end of every parallel region by default. When another program uses
    the cores, the thread that is waited for gets none while the others spin. OpenMP reads its
    environment once, when it is loaded: call this before torch is imported.
    """
    if not any(name in os.environ for name in _SETTINGS):
        os.environ["OMP_WAIT_POLICY"] = "passive"
