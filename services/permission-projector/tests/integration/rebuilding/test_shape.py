"""A release with other tables: its generation is built while the former release goes on."""

import signal
import sys

import pytest
from histories import Histories
from installation import Place, eventually

from permission_projector.generation import SHAPE

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

OTHER = "another"
OTHER_RELEASE = (
    sys.executable,
    "-c",
    "from permission_projector import generation\n"
    f"generation.TURN = generation.TURN.replace(generation.SHAPE, '{OTHER}')\n"
    f"generation.SHAPE = '{OTHER}'\n"
    "from permission_projector.__main__ import main\n"
    "main()\n",
)
"""The same tables under another name: what matters is that each release knows its own only."""


async def test_the_former_release_writes_nothing_into_the_tables_of_the_next(place: Place) -> None:
    histories = Histories(place, 21)
    await histories.write(600)
    former = await place.start("project")
    await eventually(place.caught_up)

    built = await place.run("replay", release=OTHER_RELEASE)
    assert (built.code, built.answer["former"], built.err) == (0, 1, "")
    assert await place.pool.fetchval("select shape from permissions.generation") == OTHER
    before = await place.rows("permissions")

    refused_before = await place.pool.fetchval(REFUSED)
    await histories.write(300)

    async def was_refused() -> bool:
        return await place.pool.fetchval(REFUSED) > refused_before

    await eventually(was_refused)
    assert await place.rows("permissions") == before
    assert former.returncode is None

    await place.start("project", release=OTHER_RELEASE)
    await place.end(former, signal.SIGTERM)
    await eventually(place.caught_up)
    assert await place.rows("permissions") != before
    assert (await place.run("verify", release=OTHER_RELEASE)).code == 0


async def test_going_back_is_the_former_release_s_swap(place: Place) -> None:
    await Histories(place, 22).write(300)
    former = await place.start("project")
    await eventually(place.caught_up)
    await place.run("replay", release=OTHER_RELEASE)
    await Histories(place, 23).write(300)
    back = await place.run("swap", "1")
    assert (back.code, await place.live_number()) == (0, 1)
    assert await place.pool.fetchval("select shape from permissions.generation") == SHAPE
    await eventually(place.caught_up)  # the projector that was never stopped is at home again
    assert (await place.run("verify")).code == 0
    assert former.returncode is None


REFUSED = "select xact_rollback from pg_stat_database where datname = current_database()"
