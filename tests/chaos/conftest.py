"""The modules beside, which the tests here use."""

import sys
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

from devstack.pytest_plugin import InternalTokenMaker

sys.path.insert(0, str(Path(__file__).parent))

from crash_world import World, crash_world


@pytest.fixture
async def world(tmp_path: Path, internal_tokens: InternalTokenMaker) -> AsyncGenerator[World]:
    """See `crash_world`."""
    async with crash_world(tmp_path, internal_tokens) as running:
        yield running
