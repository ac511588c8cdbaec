"""The wait policy of OpenMP's threads: a default that the user's own environment overrides."""

import os
import re
import subprocess
import sys

import pytest


def spin_count(**settings: str) -> str:
    """How often a waiting thread looks before it sleeps, as OpenMP itself says it."""
    names = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")
    environment = {k: v for k, v in os.environ.items() if k not in names}
    done = subprocess.run(
        [sys.executable, "-c", "import binseg, torch"],
        env={**environment, **settings, "OMP_DISPLAY_ENV": "VERBOSE"},
        capture_output=True,
        text=True,
        check=True,
    )
    found = re.search(r"GOMP_SPINCOUNT = '(\d+)'", done.stderr)
    if found is None:
        pytest.skip("torch comes without GNU's OpenMP here")
    return found[1]


def test_threads_sleep_by_default():
    assert spin_count() == "0"


def test_the_users_own_policy_stands():
    assert spin_count(GOMP_SPINCOUNT="1234") == "1234"
    assert int(spin_count(OMP_WAIT_POLICY="active")) > 1234
