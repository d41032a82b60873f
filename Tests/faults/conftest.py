"""What the fault suites share: how much of each to run, and skipping what this machine cannot do."""

import random

import pytest

from millrace_tests.faults import Unavailable


def pytest_addoption(parser):
    parser.addoption("--full", action="store_true", help="the full counts, which take long; otherwise a smoke run")
    parser.addoption("--fault-seed", type=int, default=None, help="the seed of all random choices; a failure prints it")


@pytest.fixture
def full(request):
    """Whether the full counts are asked for."""
    return request.config.getoption("--full")


@pytest.fixture
def choices(request):
    """Random choices that a seed repeats."""
    seed = request.config.getoption("--fault-seed")
    if seed is None:
        seed = random.SystemRandom().randrange(1 << 32)
    print(f"seed={seed} (repeat with: make faults SEED={seed})")
    return random.Random(seed)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item):
    """A fault that cannot be made here skips its test, with the reason."""
    try:
        return (yield)
    except Unavailable as reason:
        pytest.skip(str(reason))


@pytest.fixture(autouse=True)
def writes_on_threads(monkeypatch):
    """Faults are injected into system calls, and io_uring makes none for a write."""
    monkeypatch.setenv("MILLRACE_IO_URING", "off")
