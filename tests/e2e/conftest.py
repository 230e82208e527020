"""One whole stack, real processes, for all end-to-end tests of a session."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
import pytest
from rich.console import Console

from devstack.jars import cache_directory, fetch, missing
from devstack.registry import fetch_targets
from devstack.stack import running, start_in_background, stop_running
from devstack.state import StateDirectory
from devstack.world import World
from servicekit.kafka import Producer


@pytest.fixture(scope="session")
def stack_state(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StateDirectory]:
    """A fresh stack of the session's own."""
    if missing(cache_directory()):
        fetch()
    state = StateDirectory(tmp_path_factory.mktemp("stack") / "state")
    start_in_background(state, [], tied=True, console=Console(quiet=True))
    yield state
    stop_running(state)


@pytest.fixture(scope="session")
async def world(stack_state: StateDirectory) -> AsyncIterator[World]:
    """The stack with people at its portal."""
    status = running(stack_state)
    async with (
        httpx.AsyncClient(base_url=status.url("portal"), timeout=30, trust_env=False) as portal,
        httpx.AsyncClient(base_url=status.url("mailbox"), timeout=30, trust_env=False) as mailbox,
        Producer(status.addresses["kafka"], "e2e") as producer,
    ):
        yield World(stack_state, portal, mailbox, producer, await fetch_targets(status.url("targets")))


@pytest.fixture
def project() -> Path:
    """The root of the project."""
    return Path(__file__).parents[2]
