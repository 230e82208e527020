"""One child process: how it is started, asked to stop, and what is read of its log."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

# The kernel's tables of TCP sockets; Java listens on IPv4 addresses by IPv6 sockets.
_SOCKETS = (Path("/proc/net/tcp"), Path("/proc/net/tcp6"))
_LISTEN = "0A"
_SHIM = Path(__file__).with_name("child.py")
_POLL_SECONDS = 0.02


class StackError(Exception):
    """Something that a person must mend; the message says what is wrong and what to do, in one line."""


@dataclass(frozen=True, slots=True)
class Process:
    """What to start. ``env`` is added to the few variables that every program needs, see `spawn`.

    ``stop_signal`` asks it to end and ``grace`` is how many seconds it has; ``death_signal`` is what the
    kernel sends it when the launcher is killed. ``nobody`` runs it in a user namespace when we are root.
    """

    name: str
    argv: Sequence[str]
    log: Path
    env: Mapping[str, str] = field(default_factory=dict[str, str])
    stop_signal: signal.Signals = signal.SIGTERM
    death_signal: signal.Signals = signal.SIGKILL
    grace: float = 4.0
    nobody: bool = False


# What a program finds of our own environment: where programs, certificates, time zone and language are. A
# password or token in the shell of whoever starts the stack stays out of every child.
_INHERITED = ("PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR", "SSL_CERT_FILE", "SSL_CERT_DIR")


def base_environment() -> dict[str, str]:
    """The variables that every child gets of the launcher's own environment."""
    return {name: os.environ[name] for name in _INHERITED if name in os.environ}


def shim(command: Sequence[str], *, death_signal: signal.Signals, nobody: bool) -> list[str]:
    """The command line that runs ``command`` bound to the calling process' life."""
    namespace = nobody and os.geteuid() == 0
    return [
        sys.executable,
        "-I",
        "-S",
        str(_SHIM),
        str(os.getpid()),
        str(int(death_signal)),
        "1" if namespace else "0",
        *command,
    ]


def spawn(process: Process) -> subprocess.Popen[bytes]:
    """Start ``process`` in a session of its own, its output appended to its log.

    Call it from the main thread only: the kernel takes the end of the calling *thread* for the launcher's.
    """
    process.log.parent.mkdir(parents=True, exist_ok=True)
    with process.log.open("ab") as log:
        return subprocess.Popen(
            shim(process.argv, death_signal=process.death_signal, nobody=process.nobody),
            env={**base_environment(), **process.env},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def run_tool(
    name: str,
    command: Sequence[str],
    *,
    env: Mapping[str, str] | None = None,
    stdin: str = "",
    nobody: bool = False,
) -> str:
    """Run a short program to its end, with ``stdin`` to read, and return what it printed.

    Raises:
        StackError: it failed; with the last lines of what it printed.
    """
    done = subprocess.run(
        shim(command, death_signal=signal.SIGKILL, nobody=nobody),
        env={**base_environment(), **(env or {})},
        input=stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        last = " | ".join(done.stdout.strip().splitlines()[-5:])
        raise StackError(f"{name} failed with exit code {done.returncode}: {last}")
    return done.stdout


def send(child: subprocess.Popen[bytes], sign: signal.Signals) -> None:
    """Signal the child's whole session, so that its own children hear it too."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(child.pid, sign)


def stop(child: subprocess.Popen[bytes], process: Process) -> None:
    """Ask the child to end, kill it when its grace is over, and wait until it is gone."""
    with contextlib.suppress(ProcessLookupError):
        child.send_signal(process.stop_signal)
    with contextlib.suppress(subprocess.TimeoutExpired):
        child.wait(process.grace)
    send(child, signal.SIGKILL)
    child.wait()


def wait_until(
    ready: Callable[[], bool], child: subprocess.Popen[bytes], process: Process, seconds: float
) -> None:
    """Wait for ``ready``.

    Raises:
        StackError: the child ended, or ``seconds`` went by; with the end of its log.
    """
    deadline = time.monotonic() + seconds
    while not ready():
        if child.poll() is not None:
            raise StackError(
                f"{process.name} ended with exit code {child.returncode}: {excerpt(process.log)}"
            )
        if time.monotonic() > deadline:
            raise StackError(f"{process.name} was not ready after {seconds:.0f} s: {excerpt(process.log)}")
        time.sleep(_POLL_SECONDS)


def excerpt(log: Path, lines: int = 6) -> str:
    """The last lines of a log, in one line, and where the whole of it is."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - 8192))
            text = file.read().decode("utf-8", "replace")
    except OSError:
        text = ""
    telling = [line.strip() for line in text.splitlines() if any(map(str.isalnum, line))]
    last = " | ".join(telling[-lines:])
    return f"{last or 'it printed nothing'} (log: {log})"


def free_port() -> int:
    """A TCP port of 127.0.0.1 that is free now; somebody else may take it before you do."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def port_is_free(port: int) -> bool:
    """Whether a server could listen on this port of 127.0.0.1 now."""
    return why_not_free(port) is None


def why_not_free(port: int) -> str | None:
    """Why no server of this user could listen on this port of 127.0.0.1 now, to follow "Port 80 …"."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except PermissionError:
            return f"cannot be had: this user may not use ports below {_first_ordinary_port()}"
        except OSError:
            return "is taken by another program"
    return None


def _first_ordinary_port() -> int:
    try:
        return int(Path("/proc/sys/net/ipv4/ip_unprivileged_port_start").read_text())
    except (OSError, ValueError):
        return 1024


def listens(pid: int, port: int) -> bool:
    """Whether this very process, and no other, listens on this port (ip(7), proc(5)).

    Another program may have taken the port first, and answer whatever is asked there. Where the kernel has no
    /proc, whether anything answers.
    """
    if not _SOCKETS[0].exists():
        return answers(port)
    try:
        held = {str(entry.readlink()) for entry in Path(f"/proc/{pid}/fd").iterdir()}
    except OSError:  # it has ended, or a descriptor was closed meanwhile
        return False
    for table in _SOCKETS:
        with contextlib.suppress(FileNotFoundError), table.open() as rows:
            for row in rows:
                fields = row.split()
                at = fields[1].rpartition(":")[2]
                if fields[3] == _LISTEN and int(at, 16) == port and f"socket:[{fields[9]}]" in held:
                    return True
    return False


def answers(port: int) -> bool:
    """Whether something accepts connections on this port of 127.0.0.1."""
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False
