"""``permission-projector replay``, ``verify``, ``generations``, ``swap``, ``drop-generation``, ``release``.

Exit codes: 0 done (and equal, and released); 1 the comparison found differences, or the device stays in
quarantine; 2 it could not be done; 3 the database or the broker does not answer.
"""

import argparse
import asyncio
import json
import signal
import sys
import time
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import asdict
from typing import Any, Final

import asyncpg

from permission_projector.generation import SHAPE
from permission_projector.rebuilding import rebuild
from permission_projector.rebuilding.building import (
    SQL,
    Installation,
    RebuildError,
    alone,
    drop,
    generation_of,
    generations,
)
from permission_projector.rebuilding.filling import PROCESSES
from permission_projector.rebuilding.log_reader import LogReadError
from permission_projector.rebuilding.rebuild import Options, Result
from permission_projector.rebuilding.releasing import release
from permission_projector.settings import NAME, ProjectSettings
from servicekit import logging, pg
from servicekit.kafka import KafkaException
from servicekit.settings import load

_OTHERWISE: Final = 1
_NOT_DONE: Final = 2
_UNREACHABLE: Final = 3
_LINE_SECONDS: Final = 1.0

_PHASES: Final = {
    "reading": "reading the topics",
    "watermarks": "reading the newest watermarks",
    "indexing": "making the indexes",
    "catching_up": "catching up with the live generation",
    "comparing": "comparing",
    "swapping": "swapping",
    "swap_put_off": "not swapped yet, because",
    "dropping": "dropping what was made",
}


def add_verbs(
    verbs: "argparse._SubParsersAction[argparse.ArgumentParser]",  # pyright: ignore[reportPrivateUsage] - it has no public name
) -> None:
    """Declare the verbs; what they were given has a ``run``, which answers the exit code."""
    replay = _verb(verbs, "replay", _replay, "build the read models anew beside the live ones, compare, swap")
    replay.add_argument("--no-swap", action="store_true", help="leave the new generation beside the live one")
    verify = _verb(verbs, "verify", _verify, "compare the live read models with a fold of the topics")
    swap = _verb(verbs, "swap", _swap, "put another generation in the live one's place, after catching up")
    swap.add_argument("number", type=int, metavar="NUMBER")
    for verb in (replay, verify, swap):
        verb.add_argument("--most", type=_count, default=20, help="differences that are shown (20)")
    for verb in (replay, swap):
        verb.add_argument(
            "--force", action="store_true", help="swap although the comparison found differences"
        )
    for verb in (replay, verify):
        verb.add_argument("--rate", type=_count, help="read at most so many records a second")
        verb.add_argument("--processes", type=_count, default=PROCESSES, help=f"that read ({PROCESSES})")
    _verb(verbs, "generations", _generations, "list the generations of the read models")
    dropping = _verb(verbs, "drop-generation", _drop, "drop a generation that is not live")
    dropping.add_argument("number", type=int, metavar="NUMBER")
    releasing = _verb(
        verbs, "release", _release, "fold a quarantined device again, and release it when it is whole"
    )
    releasing.add_argument("device")


def _verb(
    verbs: "argparse._SubParsersAction[argparse.ArgumentParser]",  # pyright: ignore[reportPrivateUsage] - as above
    name: str,
    run: Callable[[argparse.Namespace], int],
    text: str,
) -> argparse.ArgumentParser:
    verb = verbs.add_parser(name, help=text, description=text)
    verb.add_argument("--json", action="store_true", help="JSON, one object a line; the last is the answer")
    verb.set_defaults(run=run)
    return verb


def _count(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return number


class _Progress:
    """Tells of the phases, not more often than people read."""

    def __init__(self, *, as_json: bool) -> None:
        self._as_json, self._phase, self._told = as_json, "", 0.0

    def __call__(self, phase: str, **more: object) -> None:
        now = time.monotonic()
        if (
            phase == self._phase
            and now - self._told < _LINE_SECONDS
            and more.get("records") != more.get("of", 0)
        ):
            return
        self._phase, self._told = phase, now
        if self._as_json:
            _write(json.dumps({"phase": phase, **more}))
        elif "of" in more:
            seconds = more.get("seconds_left")
            left = f", {seconds:.0f} s left" if isinstance(seconds, float) else ""
            rate = f", {more['rate']:,}/s" if more.get("rate") else ""
            _write(f"{_PHASES[phase]}: {more['records']:,} of {more['of']:,} records{rate}{left}")
        else:
            _write(" ".join([_PHASES[phase], *map(str, more.values())]))


def _replay(given: argparse.Namespace) -> int:
    options = Options(given.rate, given.processes, given.most, given.force, not given.no_swap)
    return _rebuilt(given, lambda place, report: rebuild.replay(place, options, report))


def _verify(given: argparse.Namespace) -> int:
    options = Options(given.rate, given.processes, given.most)
    return _rebuilt(given, lambda place, report: rebuild.verify(place, options, report))


def _swap(given: argparse.Namespace) -> int:
    options = Options(most=given.most, force=given.force)
    return _rebuilt(given, lambda place, report: rebuild.put_in_place(place, given.number, options, report))


def _rebuilt(
    given: argparse.Namespace, work: Callable[[Installation, _Progress], Coroutine[Any, Any, Result]]
) -> int:
    async def run(place: Installation) -> int:
        result = await work(place, _Progress(as_json=given.json))
        if given.json:
            equal = None if result.comparison is None else result.comparison.is_equal
            _write(json.dumps({**asdict(result), "equal": equal}))
        else:
            _tell(result)
        return 0 if result.comparison is None or result.comparison.is_equal else _OTHERWISE

    return _run(run)


def _tell(result: Result) -> None:
    if result.comparison is not None:
        for table in result.comparison.tables:
            rows, hashes = table.rows, table.hashes
            if table.is_equal:
                _write(f"{table.table}\t{rows[0]:,} rows\t{hashes[0]}\tequal")
            else:
                _write(f"{table.table}\t{rows[0]:,} and {rows[1]:,} rows\t{hashes[0]} {hashes[1]}\tDIFFERENT")
        for item in result.comparison.differences:
            key = " ".join(f"{name}={value}" for name, value in item.key.items())
            columns = "; ".join(f"{name}: {one!r} and {two!r}" for name, (one, two) in item.columns.items())
            _write(f"  {item.table} {key}: {item.where} {columns}".rstrip())
        for name in result.comparison.not_compared:
            _write(f"{name}\tonly one of them has it: not compared")
    if result.former is not None:
        _write(
            f"Generation {result.live} is live. Generation {result.former} is kept: swap {result.former} goes"
            f" back, drop-generation {result.former} ends it. Writers waited {result.waited or 0:.3f} s."
        )
    elif result.number is not None:
        _write(f"Generation {result.number} is ready and not live. See: swap {result.number}")


def _generations(given: argparse.Namespace) -> int:
    async def run(place: Installation) -> int:
        connection = await place.connect("pg_temp")
        try:
            found: list[dict[str, Any]] = []
            for item in await generations(connection):
                row = await connection.fetchrow(SQL["described"].format(schema=item.schema))
                assert row is not None
                found.append(
                    {
                        "number": item.number,
                        "live": item.is_live,
                        "usable": item.shape == SHAPE,
                        "made_at": row["made_at"].isoformat(),
                        "bytes": row["bytes"],
                        "records": row["records"],
                    }
                )
        finally:
            await connection.close()
        if given.json:
            _write(json.dumps({"generations": found}))
        for item in [] if given.json else found:
            state = "live" if item["live"] else "kept" if item["usable"] else "of another release"
            _write(f"{item['number']}\t{state}\t{item['made_at']}\t{item['bytes'] / 1e6:,.0f} MB")
        return 0

    return _run(run)


def _drop(given: argparse.Namespace) -> int:
    async def run(place: Installation) -> int:
        async with alone(place) as connection:
            generation = await generation_of(connection, given.number)
            if generation.is_live:
                raise RebuildError(f"Generation {given.number} is the live one: it cannot be dropped.")
            await drop(connection, generation.schema)
        text = f"Generation {given.number} is gone."
        _write(json.dumps({"dropped": given.number}) if given.json else text)
        return 0

    return _run(run)


def _release(given: argparse.Namespace) -> int:
    async def run(place: Installation) -> int:
        answer = await release(place, given.device)
        if given.json:
            _write(json.dumps(asdict(answer)))
        if answer.outcome == "kept":
            sys.stderr.write(answer.message + "\n")
            return _OTHERWISE
        if not given.json:
            _write(answer.message)
        return 0

    return _run(run)


def _run(work: Callable[[Installation], Awaitable[int]]) -> int:
    settings = load(ProjectSettings)
    logging.configure(NAME, level="critical")  # the live projector has told of every record already
    place = Installation(
        settings.postgres_dsn.get_secret_value(), settings.kafka_bootstrap, settings.topic_prefix
    )

    async def main() -> int:
        task = asyncio.current_task()
        assert task is not None
        for sign in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(sign, task.cancel)
        return await work(place)

    try:
        return asyncio.run(main())
    except asyncio.CancelledError:
        sys.stderr.write("Ended by a signal. The live read models are as they were.\n")
        return _NOT_DONE
    except RebuildError as error:
        sys.stderr.write(f"{error}\n")
        return _NOT_DONE
    except (LogReadError, KafkaException) as error:
        sys.stderr.write(f"The broker does not answer as it should: {error}\n")
        return _UNREACHABLE
    except (*pg.TRANSIENT, asyncpg.PostgresError) as error:
        sys.stderr.write(f"The database does not answer as it should: {error}\n")
        return _UNREACHABLE


def _write(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()
