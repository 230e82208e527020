"""Runs a set of processes: starts each when what it needs is ready, keeps them up, stops them in order."""

import asyncio
import contextlib
import signal
import subprocess
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Literal

import httpx

from devstack.process import Process, StackError, excerpt, listens, send, spawn
from devstack.status import ProcessStatus, State

_POLL_SECONDS = 0.05
_READY_SECONDS = 60.0
_STEADY_SECONDS = 30.0
_FIRST_PAUSE_SECONDS = 0.5
_LONGEST_PAUSE_SECONDS = 15.0


class Layer(IntEnum):
    """Stopped from the highest to the lowest, one layer after the other."""

    SERVER = 0
    DEMO = 1
    SERVICE = 2


@dataclass(frozen=True, slots=True)
class Unit:
    """One process of the stack and its place in it.

    ``needs`` names the units that must be ready first; a ``task`` is ready when it has ended with 0. ``port``
    is where it listens, and ``ready`` how one knows that it serves (default: ``/readyz`` on that port).
    ``prepare`` runs before the process, ``finish`` once it is ready and before others that need it.
    ``on_death`` of a running unit: a ``restart`` after a pause, or the end of the whole stack.
    """

    process: Process
    layer: Layer = Layer.SERVICE
    needs: Sequence[str] = ()
    task: bool = False
    port: int | None = None
    ready: Callable[[], bool] | None = None
    prepare: Callable[[], object] | None = None
    finish: Callable[[], Awaitable[object]] | None = None
    on_death: Literal["restart", "stop"] = "restart"

    @property
    def name(self) -> str:
        """The process' name."""
        return self.process.name


class Died(StackError):
    """A unit ended by itself or did not become ready; ``port`` is where it was to listen."""

    def __init__(self, message: str, port: int | None) -> None:
        super().__init__(message)
        self.port = port


@dataclass(slots=True)
class _Running:
    unit: Unit
    child: subprocess.Popen[bytes] | None = None
    state: State = "starting"
    restarts: int = 0
    since: float = 0.0
    pause: float = _FIRST_PAUSE_SECONDS


@contextlib.asynccontextmanager
async def _task_group() -> AsyncGenerator[asyncio.TaskGroup]:
    """A task group that raises the first StackError by itself, not in a group."""
    try:
        async with asyncio.TaskGroup() as group:
            yield group
    except BaseExceptionGroup as errors:
        found = errors.subgroup(StackError)
        if found is None:
            raise
        first: BaseException = found
        while isinstance(first, BaseExceptionGroup):
            first = first.exceptions[0]
        raise first from None


def _by(code: int) -> str:
    """How a process ended, for a person."""
    if code >= 0:
        return f"with exit code {code}"
    try:
        return f"by signal {-code} ({signal.Signals(-code).name})"
    except ValueError:  # a real-time signal
        return f"by signal {-code}"


Report = Callable[[str, str], None]
"""Called with a unit's name and what happened to it, for a person to read."""


class Supervisor:
    """Starts, keeps and stops ``units``; all processes are spawned from the thread that runs the loop.

    ``changed`` is called whenever `statuses` answers something new.
    """

    def __init__(self, units: Sequence[Unit], *, report: Report, changed: Callable[[], None]) -> None:
        self._units = {unit.name: _Running(unit) for unit in units}
        self._report, self._changed = report, changed
        self._client = httpx.AsyncClient(timeout=2, trust_env=False)

    def statuses(self) -> list[ProcessStatus]:
        """Every process that is meant to run, in the order of the map."""
        return [
            ProcessStatus(
                name=name,
                pid=running.child.pid if running.child and running.child.poll() is None else None,
                state=running.state,
                restarts=running.restarts,
                address=f"127.0.0.1:{running.unit.port}" if running.unit.port else None,
                log=running.unit.process.log,
            )
            for name, running in self._units.items()
            if not running.unit.task
        ]

    async def run(self, on_ready: Callable[[], None]) -> None:
        """Start everything, call ``on_ready`` when all of it is ready at once, and keep it up for ever.

        Raises:
            Died: one could not be started, or one died without which the stack cannot go on. The others are
                left as they are; call `stop`.
        """
        async with _task_group() as group:
            group.create_task(self._keep())
            await self._start()
            while any(item.state != "ready" for item in self.statuses()):  # noqa: ASYNC110 - it may end again
                await asyncio.sleep(_POLL_SECONDS)
            on_ready()

    async def _start(self) -> None:
        done = {name: asyncio.Event() for name in self._units}
        async with _task_group() as group:
            for running in self._units.values():
                group.create_task(self._start_after(running, done))

    async def _start_after(self, running: _Running, done: Mapping[str, asyncio.Event]) -> None:
        unit = running.unit
        for needed in unit.needs:
            await done[needed].wait()
        began = time.monotonic()
        if unit.prepare:
            await asyncio.to_thread(unit.prepare)
        self._spawn(running)
        await self._until_ready(running)
        if unit.finish:
            await unit.finish()
        running.state = "stopped" if unit.task else "ready"
        self._changed()
        self._report(unit.name, f"{'done' if unit.task else 'ready'} in {time.monotonic() - began:.1f} s")
        done[unit.name].set()

    def _spawn(self, running: _Running) -> None:
        running.child = spawn(running.unit.process)
        running.since = time.monotonic()
        running.state = "starting"
        self._changed()

    async def _until_ready(self, running: _Running) -> None:
        unit, child = running.unit, running.child
        assert child is not None
        deadline = time.monotonic() + _READY_SECONDS
        while not await self._is_ready(running):
            code = child.poll()
            if code is not None and not (unit.task and code == 0):
                raise Died(f"{unit.name} ended {_by(code)}: {excerpt(unit.process.log)}", unit.port)
            if time.monotonic() > deadline:
                raise Died(
                    f"{unit.name} was not ready after {_READY_SECONDS:.0f} s: {excerpt(unit.process.log)}",
                    unit.port,
                )
            await asyncio.sleep(_POLL_SECONDS)

    async def _is_ready(self, running: _Running) -> bool:
        unit = running.unit
        assert running.child is not None
        if unit.task:
            return running.child.poll() == 0
        # Another program, of another stack perhaps, may have taken the port and say that it is ready.
        if unit.port and not listens(running.child.pid, unit.port):
            return False
        if unit.ready:
            return await asyncio.to_thread(unit.ready)
        with contextlib.suppress(httpx.HTTPError):
            return (await self._client.get(f"http://127.0.0.1:{unit.port}/readyz")).is_success
        return False

    async def _keep(self) -> None:
        """Watch the ready ones: restart those that may be, with growing pauses."""
        async with _task_group() as group:
            while True:
                for running in self._units.values():
                    child = running.child
                    if running.state != "ready" or child is None or child.poll() is None:
                        continue
                    what = f"ended unexpectedly {_by(child.returncode)}"
                    if running.unit.on_death == "stop":
                        log = running.unit.process.log
                        raise Died(
                            f"{running.unit.name} {what} (log: {log}). Start it again with ./latchkey up.",
                            None,
                        )
                    running.state = "waiting"
                    send(child, signal.SIGKILL)  # what it left of its own children
                    group.create_task(self._restart(running, what))
                await asyncio.sleep(_POLL_SECONDS)

    async def _restart(self, running: _Running, what: str) -> None:
        unit = running.unit
        if time.monotonic() - running.since > _STEADY_SECONDS:
            running.pause = _FIRST_PAUSE_SECONDS
        while True:
            running.state = "waiting"
            running.restarts += 1
            self._changed()
            last = excerpt(unit.process.log, 1)
            self._report(unit.name, f"{what}; starting it again in {running.pause:.1f} s: {last}")
            await asyncio.sleep(running.pause)
            running.pause = min(running.pause * 2, _LONGEST_PAUSE_SECONDS)
            self._spawn(running)
            try:
                await self._until_ready(running)
            except Died:
                what = "could not be started"
                await self._end([running])
            else:
                running.state = "ready"
                self._changed()
                self._report(unit.name, "runs again")
                return

    async def stop(self) -> None:
        """Stop everything, layer by layer, the latest first; what does not end in its grace is killed."""
        await self._client.aclose()
        for layer in sorted(Layer, reverse=True):
            members = [running for running in reversed(self._units.values()) if running.unit.layer == layer]
            await self._end(members)
        self._changed()

    async def _end(self, members: Sequence[_Running]) -> None:
        began = time.monotonic()
        for running in members:
            if running.child and running.child.poll() is None:
                with contextlib.suppress(ProcessLookupError):
                    running.child.send_signal(running.unit.process.stop_signal)
        for running in members:
            child = running.child
            if child is None:
                continue
            while child.poll() is None and time.monotonic() - began < running.unit.process.grace:  # noqa: ASYNC110 - a process sets no event
                await asyncio.sleep(_POLL_SECONDS / 5)
            if child.poll() is None:
                self._report(
                    running.unit.name, f"did not stop within {running.unit.process.grace:g} s; killed"
                )
            send(child, signal.SIGKILL)
            child.wait()
            running.state = "stopped"
