"""One whole stack, real processes, for all end-to-end tests of a session."""

import shutil
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest
from rich.console import Console

from devstack.jars import cache_directory, fetch, missing
from devstack.stack import start_in_background, stop_running
from devstack.state import StateDirectory
from devstack.world import World


@pytest.fixture(scope="session")
def own_stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[], StateDirectory]]:
    """Starts a fresh stack, which is stopped after the session."""
    started: list[StateDirectory] = []

    def start() -> StateDirectory:
        if missing(cache_directory()):
            fetch()
        state = StateDirectory(tmp_path_factory.mktemp("stack") / "state")
        start_in_background(state, [], tied=True, console=Console(quiet=True))
        started.append(state)
        return state

    yield start
    for state in started:
        stop_running(state)


@pytest.fixture(scope="session")
def stack_state(own_stack: Callable[[], StateDirectory]) -> StateDirectory:
    """A fresh stack, which all tests of this folder share."""
    return own_stack()


@pytest.fixture(scope="session")
async def world(stack_state: StateDirectory) -> AsyncIterator[World]:
    """The stack with people at its portal."""
    async with World.at(stack_state) as world:
        yield world


@pytest.fixture(scope="session")
def chromium() -> str:
    """The program of a real browser; a test that wants one is skipped where there is none."""
    for name in ("chromium", "chromium-browser", "google-chrome"):
        if found := shutil.which(name):
            return found
    pytest.skip("there is no Chromium on this machine: install the package chromium to run this")


@pytest.fixture
def project() -> Path:
    """The root of the project."""
    return Path(__file__).parents[2]
