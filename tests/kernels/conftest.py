"""Backends that this machine can run."""

import pytest

from binseg.kernels import dispatch, isa


@pytest.fixture(params=isa.supported())
def backend(request):
    """The name of each backend in turn, in use during the test."""
    with dispatch.use(request.param):
        yield request.param
