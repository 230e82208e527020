"""A whole stack on one state directory: start it, keep it, stop it; find one that runs."""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from pathlib import Path

import httpx
from rich.console import Console

from devstack import guard
from devstack.process import StackError, answers, excerpt, port_is_free, shim
from devstack.state import Secrets, StateDirectory
from devstack.status import Moved, Status
from devstack.supervisor import Died, Supervisor, Unit

ERROR_MARK = "latchkey: "
"""How a line begins that says why a verb failed."""

_PORT_ATTEMPTS = 3
_START_SECONDS = 300.0
_STOP_SECONDS = 15.0

UnitMap = Callable[[StateDirectory, Mapping[str, int], Secrets], Sequence[Unit]]
"""Makes the processes for chosen ports; `services.units` is the real one."""


def up(
    state: StateDirectory,
    units: UnitMap,
    *,
    preferred: Mapping[str, int],
    fixed: Mapping[str, int],
    on_ready: Callable[[Status], None],
    console: Console,
) -> None:
    """Run a stack until a signal; the caller holds the state directory's lock.

    Raises:
        StackError: it could not be started, or a server died; everything is stopped then.
    """
    secrets = state.load_secrets()
    end_leftovers(secrets.stack_id)
    for attempt in range(1, _PORT_ATTEMPTS + 1):
        ports, moved = state.choose_ports(dict(preferred), dict(fixed))
        addresses = {name: f"127.0.0.1:{port}" for name, port in ports.items()}
        try:
            stack = units(state, ports, secrets)
            asyncio.run(
                _run(
                    state,
                    stack,
                    addresses,
                    moved,
                    stack_id=secrets.stack_id,
                    on_ready=on_ready,
                    console=console,
                )
            )
        except Died as error:
            taken = error.port is not None and not port_is_free(error.port)
            if not taken or error.port in fixed.values() or attempt == _PORT_ATTEMPTS:
                raise
            console.print(f"Port {error.port} was taken meanwhile. Starting again on others.")
        else:
            return


async def _run(
    state: StateDirectory,
    units: Sequence[Unit],
    addresses: dict[str, str],
    moved: dict[str, Moved],
    *,
    stack_id: str,
    on_ready: Callable[[Status], None],
    console: Console,
) -> None:
    began = time.monotonic()
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for sign in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(sign, stopping.set)
    ready = False

    def status() -> Status:
        return Status(
            pid=os.getpid(),
            state=state.path,
            ready=ready,
            addresses=addresses,
            moved=moved,
            processes=supervisor.statuses(),
        )

    def report(name: str, what: str) -> None:
        at = time.monotonic() - began
        console.print(
            f"[dim]{at:5.1f} s[/dim]  [bold]{name:<22}[/bold] {what}", soft_wrap=True, highlight=False
        )

    supervisor = Supervisor(units, report=report, changed=lambda: state.save_status(status()))

    def all_ready() -> None:
        nonlocal ready
        ready = True
        state.save_status(status())
        on_ready(status())

    with _guarded(stack_id):
        working = asyncio.create_task(supervisor.run(all_ready))
        stop = asyncio.create_task(stopping.wait())
        try:
            await asyncio.wait({working, stop}, return_when=asyncio.FIRST_COMPLETED)
            if working.done():
                working.result()
        finally:
            stop.cancel()
            working.cancel()
            console.print("Stopping.")
            with contextlib.suppress(asyncio.CancelledError, StackError):
                await working
            await supervisor.stop()
            state.drop_status()


@contextlib.contextmanager
def _guarded(stack_id: str) -> Generator[None]:
    command = [sys.executable, "-I", "-S", guard.__file__, stack_id]
    with subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True):
        yield  # leaving closes the pipe and waits: the guard ends what is left, then itself


def end_leftovers(stack_id: str) -> None:
    """End the processes of a stack whose launcher is gone; the caller holds its state directory's lock."""
    deadline = time.monotonic() + _STOP_SECONDS
    while left := guard.members(stack_id):
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if time.monotonic() > deadline:
            raise StackError(f"Processes {left} of an earlier run cannot be ended. End them by hand.")
        time.sleep(0.02)


def forget(state: StateDirectory) -> None:
    """Begin anew: end what an earlier run left, and remove its state. The caller holds the lock."""
    stack_id = state.stack_id()
    if stack_id is not None:
        end_leftovers(stack_id)
    state.clear()


def running(state: StateDirectory) -> Status:
    """The status of the stack that runs on ``state``; raises StackError when none does, or not yet."""
    holder, status = (state.holder(), state.load_status()) if state.exists() else (None, None)
    if holder is None or status is None or status.pid != holder:
        raise StackError(f"No stack runs on {state.path}. Start it with ./latchkey up.")
    return status


async def health(status: Status) -> dict[str, str]:
    """What each process answers now: ``ok``, ``failing: …`` or ``down``."""
    async with httpx.AsyncClient(timeout=3, trust_env=False) as client:

        async def one(name: str, address: str | None, pid: int | None) -> tuple[str, str]:
            if pid is None:
                return name, "down"
            if name in {"postgres", "kafka"} and address:
                ok = await asyncio.to_thread(answers, int(address.rpartition(":")[2]))
                return name, "ok" if ok else "failing: it takes no connections"
            try:
                answer = await client.get(f"http://{address}/readyz")
            except httpx.HTTPError as error:
                return name, f"failing: {type(error).__name__}"
            return name, "ok" if answer.is_success else f"failing: {answer.text[:200]}"

        found = await asyncio.gather(*(one(item.name, item.address, item.pid) for item in status.processes))
    return dict(found)


def start_in_background(
    state: StateDirectory, arguments: Sequence[str], *, tied: bool, console: Console
) -> Status:
    """Start ``up`` as a process of its own and show what it prints until it is ready.

    ``tied``: it stops when the calling process ends, however that ends.

    Raises:
        StackError: it did not become ready; with its own words, which are not shown before. It is stopped
            then, and also when a signal ends the waiting.
    """
    state.make()
    state.logs.mkdir(exist_ok=True)
    log = state.logs / "stack.log"
    options = ["--background", "--state", str(state.path), *arguments]
    command = [sys.executable, "-m", "devstack", "up", *options]
    if tied:
        command = shim(command, death_signal=signal.SIGTERM, nobody=False)
    with log.open("wb") as output:
        child = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    threading.Thread(target=child.wait, daemon=True).start()  # reaps it whenever it ends
    try:
        return _until_ready(state, child, log, console)
    except BaseException:  # Ctrl-C too: what is not ready yet nobody will think of stopping
        child.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(_STOP_SECONDS)
        raise


def _until_ready(
    state: StateDirectory, child: subprocess.Popen[bytes], log: Path, console: Console
) -> Status:
    deadline = time.monotonic() + _START_SECONDS
    with log.open() as printed:
        said = ""
        while True:
            ended = child.poll() is not None  # asked first, so that its last line is read
            for line in printed:
                if line.startswith(ERROR_MARK):
                    said = line.removeprefix(ERROR_MARK).strip()
                else:
                    console.print(line, end="", markup=False, highlight=False, soft_wrap=True)
            status = state.load_status()
            if status is not None and status.pid == child.pid and status.ready:
                return status
            if ended:
                raise StackError(said or f"The stack did not start: {excerpt(log, 1)}")
            if time.monotonic() > deadline:
                raise StackError(f"The stack was not ready after {_START_SECONDS:.0f} s: {excerpt(log, 1)}")
            time.sleep(0.05)


def stop_running(state: StateDirectory) -> bool:
    """Stop the stack on ``state`` and wait until it is gone; False when none runs (what one left is ended).

    Raises:
        StackError: it did not stop.
    """
    if not state.exists():
        return False
    pid = state.holder()
    if pid is None:
        stack_id = state.stack_id()
        if stack_id is not None:
            with state.locked() as held:
                if held:
                    end_leftovers(stack_id)
        return False
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + _STOP_SECONDS
    while state.holder() == pid:
        if time.monotonic() > deadline:
            raise StackError(f"The stack (process {pid}) did not stop within {_STOP_SECONDS:.0f} s.")
        time.sleep(0.05)
    return True
