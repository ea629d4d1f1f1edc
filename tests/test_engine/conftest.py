"""No run of a test is seen by the next."""

import pytest

import programs


@pytest.fixture(autouse=True)
def clean_singletons():
    """Forget what a run has left behind, also one of another folder's test."""
    programs.forget_runs()
    yield
    programs.forget_runs()
