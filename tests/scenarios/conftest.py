"""One real stack for all scenarios of a session."""

import secrets
import sys
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

from devstack.issuer import IssuerServer
from devstack.postgres import Cluster
from devstack.pytest_plugin import Database, InternalTokenMaker
from devstack.smtp import Mailbox

sys.path.insert(0, str(Path(__file__).parent))  # the modules beside, which several tests use

from real import RealStack, real_stack


@pytest.fixture(scope="session")
async def stack(  # noqa: PLR0917 - the fixtures it needs
    postgres_cluster: Cluster,
    kafka_bootstrap: str,
    mailbox: Mailbox,
    issuer: IssuerServer,
    internal_tokens: InternalTokenMaker,
    tmp_path_factory: pytest.TempPathFactory,
) -> AsyncGenerator[RealStack]:
    """Started when the first scenario asks for it."""
    name = f"scenarios_{secrets.token_hex(4)}"
    postgres_cluster.create(name)
    database = Database(postgres_cluster, name)
    directory = tmp_path_factory.mktemp("scenarios")
    prefix = f"{name}."
    async with real_stack(
        database, kafka_bootstrap, prefix, mailbox, internal_tokens, issuer, directory
    ) as running:
        yield running
