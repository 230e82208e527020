"""Broker and database for tests, from one of three places: processes here, containers, given addresses.

The same tests run on each. Whatever starts something here stops it when its block ends.
"""

import hashlib
import hmac
import os
import subprocess
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Final, Literal, Protocol
from urllib.parse import unquote, urlsplit

from devstack import kafka, postgres
from devstack.postgres import ROLES, SUPERUSER
from devstack.process import Process, StackError, free_port, listens, spawn, stop, wait_until

Stack = Literal["embedded", "containers", "external"]

_PROJECT: Final = Path(__file__).parents[4]
_START_ATTEMPTS: Final = 3
_START_SECONDS: Final = 60.0
_CONTAINER_SECONDS: Final = 180.0
"""Longer, as the images' Java starts twice, and from its jars: to format, then to serve."""


class Servers(Protocol):
    """One of the three places. Each server lives while its block runs."""

    def broker(self, directory: Path) -> Generator[str]:
        """A broker; its address."""
        ...

    def database(self, directory: Path) -> Generator[postgres.Cluster]:
        """A PostgreSQL server."""
        ...


def _start(
    make: Callable[[], tuple[Process, Callable[[int], bool]]],
) -> tuple[Process, subprocess.Popen[bytes]]:
    """Start a server; again on other ports when somebody took one between the choice and the start.

    ``make`` answers what to start, and how one knows that the process of a given id serves.
    """
    attempt = 1
    while True:
        process, ready = make()
        child = spawn(process)
        try:
            wait_until(partial(ready, child.pid), child, process, _START_SECONDS)
        except StackError:
            stop(child, process)
            if attempt == _START_ATTEMPTS:
                raise
            attempt += 1
        else:
            return process, child


class Embedded:
    """Processes of this machine, which die with the test run. The database's durability is off."""

    def broker(self, directory: Path) -> Generator[str]:
        """A broker of its own."""
        bootstrap = ""

        def make() -> tuple[Process, Callable[[int], bool]]:
            nonlocal bootstrap
            port = free_port()
            bootstrap = f"127.0.0.1:{port}"
            kafka.prepare(directory, port=port, controller_port=free_port())
            process = kafka.process(directory, directory / "kafka.log")
            return process, lambda pid: listens(pid, port) and kafka.is_ready(bootstrap)

        process, child = _start(make)
        yield bootstrap
        stop(child, process)

    def database(self, directory: Path) -> Generator[postgres.Cluster]:
        """A server of its own."""
        passwords = postgres.new_passwords()
        cluster = postgres.Cluster(0, passwords)
        postgres.prepare(directory / "data", passwords[SUPERUSER])

        def make() -> tuple[Process, Callable[[int], bool]]:
            nonlocal cluster
            cluster = postgres.Cluster(free_port(), passwords)
            log = directory / "postgres.log"
            process = postgres.process(directory / "data", port=cluster.port, log=log, durable=False)
            return process, lambda pid: listens(pid, cluster.port) and cluster.is_ready()

        process, child = _start(make)
        yield cluster
        stop(child, process)


class Containers:
    """Containers of the images of docker-compose.yml, on loopback; by testcontainers."""

    def broker(self, directory: Path) -> Generator[str]:
        """A broker of its own."""
        port = free_port()
        bootstrap = f"127.0.0.1:{port}"
        with _container(
            image("KAFKA"),
            port,
            environment={"LATCHKEY_ADVERTISED": bootstrap},
            volume=(_PROJECT / "deploy" / "kafka", "/etc/latchkey"),
            entrypoint=["/bin/sh", "/etc/latchkey/start.sh"],
            ready=lambda: kafka.is_ready(bootstrap),
        ):
            yield bootstrap

    def database(self, directory: Path) -> Generator[postgres.Cluster]:
        """A server of its own, whose durability is off."""
        passwords = postgres.new_passwords()
        cluster = postgres.Cluster(free_port(), passwords)
        with _container(
            image("POSTGRES"),
            cluster.port,
            environment={"POSTGRES_PASSWORD": passwords[SUPERUSER]},
            command=["postgres", "-c", f"port={cluster.port}", *postgres.options(durable=False)],
            ready=cluster.is_ready,
        ):
            yield cluster


class External:
    """Servers that somebody else runs. Tests make and drop databases and topics there, all by new names."""

    def __init__(self, bootstrap: str, superuser_dsn: str) -> None:
        self._bootstrap = bootstrap
        parts = urlsplit(superuser_dsn)
        if parts.username != SUPERUSER or not parts.password or not parts.hostname:
            raise StackError(
                f"--postgres has the form postgresql://{SUPERUSER}:password@host:port, "
                "and names the superuser: each test has a database of its own."
            )
        password = unquote(parts.password)
        # Roles belong to the whole server: several test runs on it have to agree on their passwords.
        of_roles = {
            role: hmac.digest(password.encode(), role.encode(), hashlib.sha256).hex() for role in ROLES
        }
        self._cluster = postgres.Cluster(
            parts.port or 5432, {SUPERUSER: password, **of_roles}, host=parts.hostname
        )

    def broker(self, directory: Path) -> Generator[str]:
        """The given one."""
        yield self._bootstrap

    def database(self, directory: Path) -> Generator[postgres.Cluster]:
        """The given one."""
        yield self._cluster


def image(name: str) -> str:
    """One of the images pinned in ``.env``; an environment variable of the same name goes first.

    Raises:
        StackError: the file has none of that name.
    """
    variable = f"LATCHKEY_IMAGE_{name}"
    lines = (_PROJECT / ".env").read_text().splitlines()
    pinned = dict(line.split("=", 1) for line in lines if "=" in line and not line.startswith("#"))
    if variable not in pinned:
        raise StackError(f".env pins no {variable}.")
    return os.environ.get(variable, pinned[variable])


def why_no_containers() -> str | None:
    """Why no container can be run here; None when one can."""
    import docker  # noqa: PLC0415 - costs a tenth of a second, and most test runs need none
    from docker.errors import DockerException  # noqa: PLC0415 - as above

    try:
        client = docker.from_env()
        client.ping()  # pyright: ignore[reportUnknownMemberType] - docker is untyped
        client.close()
    except (DockerException, OSError) as error:
        return f"no Docker engine answers ({type(error).__name__})"
    return None


@contextmanager
def _container(
    name: str,
    port: int,
    *,
    environment: dict[str, str],
    ready: Callable[[], bool],
    entrypoint: list[str] | None = None,
    command: list[str] | None = None,
    volume: tuple[Path, str] | None = None,
) -> Generator[None]:
    """Run a container whose server listens on ``port``, inside as on this machine's loopback."""
    from testcontainers.core.container import DockerContainer  # noqa: PLC0415 - as in `why_no_containers`

    container = DockerContainer(name, env=environment)
    if entrypoint:
        container.with_kwargs(entrypoint=entrypoint)
    if command:
        container.with_command(command)
    if volume:
        container.with_volume_mapping(*map(str, volume))
    container.ports[str(port)] = ("127.0.0.1", port)  # pyright: ignore[reportArgumentType] - docker takes it
    with container:
        running = container.get_wrapped_container()
        deadline = time.monotonic() + _CONTAINER_SECONDS
        while not ready():
            running.reload()  # or its status is what it was at first
            if time.monotonic() > deadline or running.status == "exited":
                told = b"".join(container.get_logs()).decode("utf-8", "replace")
                raise StackError(f"The container of {name} is not ready: {told[-1000:]}")
            time.sleep(0.1)
        yield
