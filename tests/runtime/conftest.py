"""What the tests of libbinseg share."""

import pytest

from binseg.runtime.library import isas


@pytest.fixture(params=["portable", "avx2", "avx512", "amx", "neon"])
def isa(request: pytest.FixtureRequest) -> str:
    """Each instruction set that this processor has."""
    if request.param not in isas():
        pytest.skip(f"this processor has no {request.param}")
    return request.param
