"""Fixtures on real servers: each is started once a session, on free ports, when the first test asks for it.

``--stack`` says where broker and database come from: processes of the embedded stack (the default),
containers of the images of docker-compose.yml, or servers at given addresses. The same tests run on each.

Several test runs may go on at once on one machine; each has its own servers, which die with it.
"""

# ruff: noqa: PLC0415 - imported where it is needed: every test run loads this, most start no server

import asyncio
import secrets
import time
from collections.abc import AsyncGenerator, Generator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from xdist.scheduler import LoadScopeScheduling

    from devstack.backends import Servers
    from devstack.certificates import Files
    from devstack.issuer import IssuerServer
    from devstack.postgres import Cluster
    from devstack.smtp import Mailbox

_WHOLE_STACKS = ("tests/e2e/web/", "tests/e2e/")
"""Each one's tests share a stack; the last of the second's looks at what the others left there."""


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> "LoadScopeScheduling":
    """Tests side by side: a file's go to one worker, and so do all that share the whole stack."""
    from xdist.scheduler import LoadScopeScheduling

    class ByFile(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = nodeid.split("::", 1)[0]
            return next((stack for stack in _WHOLE_STACKS if nodeid.startswith(stack)), file)

    return ByFile(config, log)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Side by side, what takes longest begins first, so that no worker is left alone with it at the end."""
    if hasattr(config, "workerinput"):  # what xdist gives its workers, whose order it goes by
        items.sort(key=lambda item: not item.nodeid.startswith("tests/"))


def pytest_addoption(parser: pytest.Parser) -> None:
    """Where broker and database come from."""
    group = parser.getgroup("latchkey")
    group.addoption(
        "--stack",
        choices=("embedded", "containers", "external"),
        default="embedded",
        help="broker and database of the tests: processes (default), containers, or given addresses",
    )
    group.addoption("--kafka", help="with --stack external: the broker, host:port")
    group.addoption("--postgres", help="with --stack external: postgresql://postgres:password@host:port")


def pytest_configure(config: pytest.Config) -> None:
    """Say at once when what was asked for cannot be had."""
    stack = config.getoption("--stack")
    if stack == "external" and not (config.getoption("--kafka") and config.getoption("--postgres")):
        raise pytest.UsageError("--stack external needs --kafka and --postgres")
    if stack == "containers":
        from devstack.backends import why_no_containers

        if why := why_no_containers():
            raise pytest.UsageError(f"--stack containers: {why}")


@pytest.fixture(scope="session")
def servers(pytestconfig: pytest.Config) -> "Servers":
    """Where broker and database come from in this session."""
    from devstack.backends import Containers, Embedded, External

    match pytestconfig.getoption("--stack"):
        case "containers":
            return Containers()
        case "external":
            return External(str(pytestconfig.getoption("--kafka")), str(pytestconfig.getoption("--postgres")))
        case _:
            return Embedded()


@pytest.fixture(scope="session")
def kafka_bootstrap(servers: "Servers", tmp_path_factory: pytest.TempPathFactory) -> Generator[str]:
    """Address of a broker for this session."""
    yield from servers.broker(tmp_path_factory.mktemp("kafka"))


@pytest.fixture
def topic_prefix(request: pytest.FixtureRequest) -> Generator[str]:
    """A prefix for topic names that no other test uses; the topics are deleted after the test."""
    prefix = f"t{secrets.token_hex(5)}."
    yield prefix
    if "kafka_bootstrap" in request.fixturenames:
        from devstack import kafka

        kafka.drop_topics(request.getfixturevalue("kafka_bootstrap"), prefix)


class Database:
    """A database of one test, with every service's role and schema in it."""

    def __init__(self, cluster: "Cluster", name: str) -> None:
        self._cluster = cluster
        self.name = name

    def dsn(self, role: str = "postgres") -> str:
        """Connection string of a service's role (``share_command``), or of the superuser."""
        return self._cluster.dsn(self.name, role)


@pytest.fixture(scope="session")
def postgres_cluster(servers: "Servers", tmp_path_factory: pytest.TempPathFactory) -> "Generator[Cluster]":
    """A PostgreSQL server for this session; one that was started for it loses data in a crash."""
    yield from servers.database(tmp_path_factory.mktemp("postgres"))


@pytest.fixture
def database(postgres_cluster: "Cluster") -> Generator[Database]:
    """A fresh database, dropped after the test."""
    name = f"test_{secrets.token_hex(6)}"
    postgres_cluster.create(name)
    yield Database(postgres_cluster, name)
    postgres_cluster.drop(name)


@pytest.fixture
async def early_in_a_minute() -> None:
    """For tests of what may be asked in a minute: limits are counted by the clock's minutes, and only roughly
    where two of them meet."""
    while time.time() % 60 > 40:  # noqa: ASYNC110 - the clock is what is waited for
        await asyncio.sleep(0.1)


@pytest.fixture(scope="session")
async def mailbox() -> "AsyncGenerator[Mailbox]":
    """An SMTP server that keeps what it gets."""
    from devstack.smtp import Mailbox

    async with Mailbox.start("127.0.0.1", http_port=0, smtp_port=0) as server:
        yield server


@pytest.fixture(scope="session")
async def issuer() -> "AsyncGenerator[IssuerServer]":
    """An OpenID Connect issuer that signs tokens for any account."""
    from devstack.issuer import IssuerServer

    async with IssuerServer.start("127.0.0.1", port=0) as server:
        yield server


class InternalTokenMaker:
    """A caller that services may trust: its key and tokens signed with it."""

    def __init__(self) -> None:
        from devstack.keys import new_internal_key

        self.private_jwk, self.public_jwks = new_internal_key()

    def token(self, audience: str, account_id: str) -> str:
        """A token that lets ``audience`` act for ``account_id``."""
        from servicekit.auth import InternalTokens

        return InternalTokens(self.private_jwk, "portal").mint(audience=audience, account_id=account_id)


@pytest.fixture(scope="session")
def internal_tokens() -> InternalTokenMaker:
    """A trusted caller: give a service ``public_jwks`` and ask it with ``token(audience, account_id)``."""
    return InternalTokenMaker()


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> "Files":
    """A certificate for ``localhost`` and 127.0.0.1, its key, and the authority that signed it."""
    from devstack.certificates import files, make

    directory = tmp_path_factory.mktemp("tls") / "tls"
    make(directory)
    return files(directory)
