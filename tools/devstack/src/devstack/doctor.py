"""``./latchkey doctor``: what is missing on this machine, and the command that mends it."""

import os
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from devstack import guard, jars, services
from devstack.process import StackError, port_is_free, run_tool
from devstack.state import StateDirectory

_NEEDED_MB = 1500


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing looked at; what is ``vital`` and not ``ok`` keeps the stack from starting."""

    name: str
    ok: bool
    what: str
    vital: bool = True


def examine(project: Path, state: StateDirectory) -> list[Finding]:
    """Look at everything that `up` and `test` need."""
    return [
        _python(),
        _environment(project),
        *_disk(project),
        _jars(),
        *_user_namespace(),
        _git(),
        *_state(state),
    ]


def _python() -> Finding:
    version = ".".join(str(part) for part in sys.version_info[:3])
    ok = sys.version_info >= (3, 11)
    return Finding(
        "Python", ok, version if ok else f"{version} is too old. Mend: install Python 3.11 or newer"
    )


def _environment(project: Path) -> Finding:
    if (project / ".venv" / "latchkey-stamp").is_file():
        return Finding("environment", True, str(project / ".venv"))
    return Finding(
        "environment",
        False,
        "it was not made by the launcher. Mend: rm -r .venv && ./latchkey doctor",
        vital=False,
    )


def _disk(project: Path) -> Iterator[Finding]:
    yield _space("disk", project)
    yield _space("disk for caches", jars.cache_directory())


def _space(name: str, path: Path) -> Finding:
    there = _existing(path)
    free = shutil.disk_usage(there).free // 1_000_000
    ok = free >= _NEEDED_MB
    what = f"{free:,} MB free under {there}"
    return Finding(name, ok, what if ok else f"{what}. Mend: free {_NEEDED_MB - free:,} MB there")


def _existing(path: Path) -> Path:
    return next(parent for parent in (path, *path.parents) if parent.is_dir())


def _state(state: StateDirectory) -> Iterator[Finding]:
    """What is to be seen in the state directory, when this user may use it."""
    try:
        state.exists()
    except StackError as error:
        yield Finding("state", False, str(error))
        return
    there = _existing(state.path)
    if not os.access(there, os.W_OK | os.X_OK):
        yield Finding("state", False, f"this user may not write in {there}. Mend: name another by --state")
        return
    yield _space("disk for state", state.path)
    yield from _ports(state)
    yield _leftovers(state)


def _jars() -> Finding:
    cache = jars.cache_directory()
    absent = jars.missing(cache)
    if not absent:
        return Finding("Kafka jars", True, str(cache))
    size = sum(jar.size for jar in absent) // 1_000_000
    what = f"{len(absent)} files, {size} MB, are to be fetched. Mend: ./latchkey up"
    return Finding("Kafka jars", False, what, vital=False)


def _user_namespace() -> Iterator[Finding]:
    if os.geteuid() != 0:
        return
    try:
        run_tool("a user namespace", ["true"], nobody=True)
    except StackError:
        yield Finding(
            "user namespace",
            False,
            "PostgreSQL does not run as root, and none can be made. Mend: run as an ordinary user, or "
            "sysctl -w user.max_user_namespaces=10000",
        )
    else:
        yield Finding("user namespace", True, "PostgreSQL runs in one, as it refuses root")


def _git() -> Finding:
    ok = shutil.which("git") is not None
    what = "found" if ok else "the type check cannot count its files. Mend: install git"
    return Finding("git", ok, what, vital=False)


def _ports(state: StateDirectory) -> Iterator[Finding]:
    running = state.load_status() if state.path.is_dir() and state.holder() else None
    if running is not None:
        yield Finding("ports", True, f"in use by the running stack, process {running.pid}")
        return
    taken = [f"{port} ({name})" for name, port in services.PREFERRED_PORTS.items() if not port_is_free(port)]
    what = "all free" if not taken else f"taken: {', '.join(taken)}; others will be used. See them: ss -ltnp"
    yield Finding("ports", not taken, what, vital=False)


def _leftovers(state: StateDirectory) -> Finding:
    stack_id = state.stack_id()
    left = guard.members(stack_id) if stack_id and not state.holder() else []
    if not left:
        return Finding("leftovers", True, "no process of an earlier run")
    pids = " ".join(str(pid) for pid in left)
    return Finding("leftovers", False, f"processes of an earlier run: {pids}. Mend: ./latchkey down")
