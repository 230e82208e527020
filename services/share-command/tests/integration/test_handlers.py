"""Handlers on a real database: whole or not at all; event ⇔ state."""

import asyncio
import json
from typing import Any
from uuid import UUID

import pytest

from contracts import codec
from contracts.commands import (
    AcceptShare,
    AnyCommand,
    LeaveShare,
    RejectShare,
    RequestShare,
    RevokeShare,
    ServiceChange,
)
from contracts.events import AnyShareEvent, ShareEvent
from servicekit import pg
from servicekit.telemetry import correlated
from share_command import domain
from share_command.errors import (
    Conflict,
    DeviceNotFound,
    InvalidEmail,
    LimitReached,
    NotARecipient,
    Refused,
    SelfShare,
    ServiceNotOnDevice,
)
from share_command.handlers import Handlers

TABLES = ("share", "event", "outbox", "contact", "contact_book", "device_stream")


@pytest.fixture
def handlers(pool: pg.Pool) -> Handlers:
    return Handlers(pool, lambda: None)


def request(
    command_id: str, *devices: str, to: tuple[str, ...] = ("ann@x.test",), **more: Any
) -> RequestShare:
    fields = {"actor": "owner", "device_ids": devices or ("d0",), "recipients": to, **more}
    return RequestShare.model_validate({"command_id": command_id, **fields})


def revoke(command_id: str, *devices: str, to: tuple[str, ...], actor: str = "owner") -> RevokeShare:
    return RevokeShare(command_id=command_id, actor=actor, device_ids=devices, recipients=to)


async def dump(pool: pg.Pool) -> dict[str, list[tuple[Any, ...]]]:
    return {table: [tuple(row) for row in await pool.fetch(f"select * from {table} order by 1, 2")]
            for table in TABLES}  # fmt: skip


async def accept(
    pool: pg.Pool, device: str = "d0", actor: str = "ann", command_id: str = "accept"
) -> AcceptShare:
    row = await pool.fetchrow("select share_id, invitation_version from share where device_id = $1", device)
    assert row is not None
    return AcceptShare(
        command_id=command_id, actor=actor, device_id=device, share_id=row["share_id"],
        invitation_version=row["invitation_version"],
    )  # fmt: skip


async def test_the_life_of_a_share(handlers: Handlers, pool: pg.Pool) -> None:
    with correlated("corr-1"):
        accepted = await handlers.handle(request("c1", to=("Ann@X.test", "ann@x.test")))
    assert [str(item) for item in accepted.positions] == ["d0@1"], "one address twice is one recipient"
    assert [str(item) for item in (await handlers.handle(await accept(pool))).positions] == ["d0@2"]
    leave = LeaveShare(command_id="c3", actor="ann", device_ids=("d0",))
    assert [str(item) for item in (await handlers.handle(leave)).positions] == ["d0@3"]
    rows = await pool.fetch("select topic, key, value, correlation_id from outbox order by id")
    assert [row["topic"] for row in rows] == ["directory.contacts", *["share.events"] * 3]
    messages = [codec.decode(row["value"]) for row in rows]
    assert [type(message.data).__name__ for message in messages] == [
        "ContactSnapshot", "ShareRequested", "ShareAccepted", "ShareLeft",
    ]  # fmt: skip
    assert [message.version for message in messages] == [None, 1, 2, 3]
    assert [message.causationid for message in messages] == ["c1", "c1", "accept", "c3"]
    assert messages[1].correlationid == rows[1]["correlation_id"] == "corr-1"
    assert {row["key"] for row in rows[1:]} == {"d0"}
    assert not any(b"x.test" in row["value"] for row in rows[1:]), "no address in any event"
    assert "x.test" not in json.dumps(
        [row["envelope"] for row in await pool.fetch("select envelope from event")]
    )
    assert [row["address"] for row in await pool.fetch("select address from contact")] == [
        "mailto:ann@x.test"
    ]


def people(count: int) -> tuple[str, ...]:
    return tuple(f"p{number}@x.test" for number in range(count))


async def test_a_command_too_large_is_refused_before_anything(handlers: Handlers, pool: pg.Pool) -> None:
    names = tuple(f"d{number}" for number in range(40))
    for command in (
        request("c1", *names, to=people(26)),
        revoke("c2", *names, to=people(26)),
        LeaveShare(command_id="c3", actor="ann", device_ids=names, recipients=people(26)),
    ):
        with pytest.raises(LimitReached) as refused:
            await handlers.handle(command)
        assert "1040" in refused.value.message
        assert "1000" in refused.value.message
    assert await pool.fetchval("select count(*) from command") == 0
    answer = await handlers.handle(request("c4", *names, *names, to=(*people(25), *people(25))))
    assert len(answer.positions) == 40, "a name given twice counts once"
    assert await pool.fetchval("select count(*) from event") == 1000
    await check_consistency(pool)


async def test_an_event_too_large_to_send_is_refused(handlers: Handlers, pool: pg.Pool) -> None:
    await pool.execute(
        "insert into device_service select 'd0', rpad('s' || n, 60, 'x'), 's' from generate_series(1, 9000) n"
    )
    await handlers.handle(request("c1"))
    before = await dump(pool)
    remove = (ServiceChange(service_id="d0-ssh", action="REMOVE"),)
    with pytest.raises(LimitReached) as refused:
        await handlers.handle(request("c2", services=remove))
    assert refused.value.details == {"device_id": "d0"}
    assert "at most 500000" in refused.value.message
    assert await dump(pool) == before


async def test_after_a_transfer_the_new_owner_invites_anew(handlers: Handlers, pool: pg.Pool) -> None:
    await handlers.handle(request("c1", scripting=True))
    await handlers.handle(await accept(pool))
    await pool.execute("update device set owner_account_id = 'rival' where device_id = 'd0'")
    answer = await handlers.handle(request("c3", actor="rival"))
    assert [str(item) for item in answer.positions] == ["d0@4"]
    rows = await pool.fetch("select envelope from event order by version")
    events = [codec.decode(row["envelope"].encode()).data for row in rows]
    assert [type(event).__name__ for event in events] == [
        "ShareRequested", "ShareAccepted", "ShareRevoked", "ShareRequested",
    ]  # fmt: skip
    share = await pool.fetchrow("select state, owner_account_id, account_id, invitation_version from share")
    assert share is not None
    assert tuple(share) == ("requested", "rival", None, 4)
    await check_consistency(pool)
    await handlers.handle(await accept(pool, command_id="c4"))
    assert await pool.fetchval("select state from share") == "active"


async def test_what_an_invitation_shows_and_when(handlers: Handlers, pool: pg.Pool) -> None:
    await handlers.handle(request("c1", services=(ServiceChange(service_id="d0-ssh"),)))
    row = await pool.fetchrow("select share_id, contact_id from share")
    assert row is not None

    async def seen() -> Any:
        return await handlers.outside(
            lambda book: book.invitation(row["share_id"], "d0", row["contact_id"], "ann")
        )

    shown = await seen()
    assert (shown["device_name"], shown["service_names"]) == ("Device d0", {"d0-ssh": "ssh"})
    await pool.execute("update device set owner_account_id = 'rival' where device_id = 'd0'")
    assert await seen() is None, "what the device is called now is the new owner's"
    await pool.execute("update device set owner_account_id = 'owner' where device_id = 'd0'")
    await handlers.handle(revoke("c2", "d0", to=("ann@x.test",)))
    shown = await seen()
    assert (shown["state"], shown["device_name"], shown["service_names"]) == ("revoked", "d0", {})


async def test_ones_own_service_comes_before_anothers_device(handlers: Handlers, pool: pg.Pool) -> None:
    await pool.execute("insert into device_service values ('d0', 'foreign', 'Mine')")
    answer = await handlers.handle(request("c1", "foreign"))
    assert [str(item) for item in answer.positions] == ["d0@1"]
    terms = json.loads(await pool.fetchval("select terms from share"))
    assert list(terms["scope"]["services"]) == ["foreign"]


@pytest.mark.parametrize(
    ("command", "error", "details"),
    [
        (request("c", "d1", "foreign"), DeviceNotFound, {"device_id": "foreign"}),
        (request("c", "d1", "nowhere"), DeviceNotFound, {"device_id": "nowhere"}),
        (request("c", "d1", to=("ann@x.test", "nonsense")), InvalidEmail, {"recipient": "nonsense"}),
        (
            request("c", "d1", to=("new@x.test", "Owner@x.test")),
            SelfShare,
            {"device_id": "d1", "recipient": "Owner@x.test"},
        ),
        (
            request("c", "d1", "d0", services=({"service_id": "d0-ssh"}, {"service_id": "d7-ssh"})),
            ServiceNotOnDevice,
            {"service_id": "d7-ssh"},
        ),
        (
            request("c", "d1", "d2", services=({"service_id": "d1-ssh"},)),
            ServiceNotOnDevice,
            {"device_id": "d2", "recipient": "ann@x.test", "service_id": "d1-ssh"},
        ),
        (
            revoke("c", "d0", "foreign", to=("ann@x.test",)),
            DeviceNotFound,
            {"device_id": "foreign", "recipient": "ann@x.test"},
        ),
        (
            LeaveShare(command_id="c", actor="ann", device_ids=("d0", "d9")),
            DeviceNotFound,
            {"device_id": "d9"},
        ),
        (
            LeaveShare(command_id="c", actor="ann", device_ids=("d0",), recipients=("bob@x.test",)),
            NotARecipient,
            {"recipient": "bob@x.test"},
        ),
        (
            RejectShare(command_id="c", actor="ann", device_id="d0", share_id=UUID(int=0)),
            DeviceNotFound,
            {"device_id": "d0"},
        ),
    ],
)
async def test_all_or_nothing(
    handlers: Handlers, pool: pg.Pool, command: AnyCommand, error: type[Refused], details: dict[str, str]
) -> None:
    await handlers.handle(request("before"))
    before = await dump(pool)
    with pytest.raises(error) as refused:
        await handlers.handle(command)
    assert refused.value.details == details
    assert await dump(pool) == before


async def test_unknown_and_foreign_are_told_alike(handlers: Handlers) -> None:
    messages: set[str] = set()
    for number, device in enumerate(("foreign", "nowhere")):
        for command in (
            request(f"r{number}", device),
            revoke(f"v{number}", device, to=("ann@x.test",)),
            LeaveShare(command_id=f"l{number}", actor="owner", device_ids=(device,)),
        ):
            with pytest.raises(DeviceNotFound) as refused:
                await handlers.handle(command)
            messages.add(refused.value.message)
    assert len(messages) == 1


async def test_several_devices_and_recipients(handlers: Handlers, pool: pg.Pool) -> None:
    both = ("ann@x.test", "bob@x.test")
    changes = (ServiceChange(service_id="d1-ssh"), ServiceChange(service_id="d0-web"))
    answer = await handlers.handle(request("c1", "d1", "d0", "d2-ssh", to=both, services=changes))
    assert [str(item) for item in answer.positions] == ["d0@2", "d1@2", "d2@2"]
    rows = await pool.fetch("select device_id, terms from share")
    scopes = {row["device_id"]: list(json.loads(row["terms"])["scope"]["services"]) for row in rows}
    assert scopes == {"d0": ["d0-web"], "d1": ["d1-ssh"], "d2": ["d2-ssh"]}
    # One of the two has left already: taking away what is not there succeeds.
    await handlers.handle(LeaveShare(command_id="c2", actor="ann", device_ids=("d0",)))
    answer = await handlers.handle(revoke("c3", "d0", "d1", to=(*both, "nobody@x.test")))
    assert [str(item) for item in answer.positions] == ["d0@4", "d1@4"]
    assert await pool.fetchval("select count(*) from contact") == 2, "revoking makes no contact"


async def test_taking_services_out_makes_no_contact(handlers: Handlers, pool: pg.Pool) -> None:
    changes = (ServiceChange(service_id="d0-ssh", action="REMOVE"),)
    await handlers.handle(request("c1", to=("ann@x.test",), services=changes))
    assert await pool.fetchval("select count(*) from contact") == 0
    assert await pool.fetchval("select count(*) from event") == 0


async def test_acceptance_of_old_terms(handlers: Handlers, pool: pg.Pool) -> None:
    await handlers.handle(request("c1"))
    stale = await accept(pool)
    await handlers.handle(request("c2", scripting=True))
    with pytest.raises(Conflict) as refused:
        await handlers.handle(stale)
    assert refused.value.details["invitation_version"] == 2
    with pytest.raises(Conflict) as again:
        await handlers.handle(stale)
    assert again.value.details == refused.value.details, "the stored refusal has the details too"
    with pytest.raises(DeviceNotFound):
        await handlers.handle(await accept(pool, actor="eve", command_id="c4"))
    await handlers.handle(await accept(pool, command_id="c5"))


async def test_a_recipient_gives_back_a_device_that_is_gone(handlers: Handlers, pool: pg.Pool) -> None:
    await handlers.handle(request("c1"))
    await handlers.handle(await accept(pool))
    await pool.execute("delete from device where device_id = 'd0'")
    await handlers.handle(LeaveShare(command_id="c3", actor="ann", device_ids=("d0",)))
    assert await pool.fetchval("select state from share") == "left"


async def test_load_keeps_events_and_state_one(handlers: Handlers, pool: pg.Pool) -> None:
    """Crossing commands in all orders: no deadlock, versions without a gap, state = fold of events."""
    people = [f"p{number}@x.test" for number in range(5)]

    async def client(number: int) -> None:
        for step in range(8):
            devices = [f"d{(number * 7 + step * 3 + offset * 5) % 6}" for offset in range(3)]
            to = tuple(people[(number + step + offset) % 5] for offset in range(2))
            name = f"{number}-{step}"
            if (number + step) % 3:
                await handlers.handle(request(name, *devices, to=to[::-1], scripting=bool(step % 2)))
            else:
                await handlers.handle(revoke(name, *devices, to=to))

    await asyncio.gather(*(client(number) for number in range(12)))
    await check_consistency(pool)
    assert await pool.fetchval("select count(*) from event") > 50


async def check_consistency(pool: pg.Pool) -> None:
    versions: dict[str, int] = {}
    shares: dict[UUID, domain.Share] = {}
    for row in await pool.fetch("select version, envelope from event order by device_id, version"):
        message = codec.decode(row["envelope"].encode())
        assert isinstance(message.data, ShareEvent)
        event: AnyShareEvent = message.data
        versions[event.device_id] = versions.get(event.device_id, 0) + 1
        assert message.version == row["version"] == versions[event.device_id]
        shares[event.share_id] = domain.evolve(
            shares.get(event.share_id), event, row["version"], message.time
        )
    stored = {row["device_id"]: row["version"] for row in await pool.fetch("select * from device_stream")}
    assert {name: version for name, version in stored.items() if version} == versions
    states = {row["share_id"]: row["state"] for row in await pool.fetch("select share_id, state from share")}
    assert states == {share_id: share.state for share_id, share in shares.items()}
    terms = {row["share_id"]: json.loads(row["terms"]) for row in await pool.fetch("select * from share")}
    assert terms == {share_id: share.terms.model_dump(mode="json") for share_id, share in shares.items()}
    outbox = await pool.fetch("select key, value from outbox where topic = 'share.events' order by id")
    sent: dict[str, list[int | None]] = {}
    for row in outbox:
        sent.setdefault(row["key"], []).append(codec.decode(row["value"]).version)
    assert sent == {name: list(range(1, version + 1)) for name, version in versions.items()}
