"""What nobody else may learn: an owner's remarks, and whether an address has an account."""

import json
import re
import subprocess
from collections.abc import Awaitable, Callable
from typing import Any

import asyncpg
import httpx
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from contracts.commands import RequestShare
from contracts.links import InvitationLink, sign_link
from servicekit import pg
from servicekit.kafka import Record
from share_command.handlers import Handlers

MARKER = "Zq7"
plain = st.characters(exclude_categories=("Cc", "Cf", "Cs", "Co", "Cn"), exclude_characters="Zq7")
remarks = st.tuples(st.text(plain, max_size=80), st.text(plain, max_size=80)).map(MARKER.join)


async def everything_happens(world: Any, owner: httpx.AsyncClient, remark: str) -> list[str]:
    """The owner notes something on contacts and shares with them in every way; the answers to others."""
    answers: list[str] = []

    async def post(client: httpx.AsyncClient, path: str, body: Any) -> httpx.Response:
        answer = await client.post(path, json=body)
        if client is not owner:
            answers.append(f"{answer.headers} {answer.text}")
        return answer

    async def command(client: httpx.AsyncClient, name: str, body: Any) -> None:
        for way in ("explanations", "commands"):
            await post(client, f"/v1/{way}/{name}", {"command_id": f"{name}-{len(answers)}", **body})

    ids: list[str] = []
    for person in ("ann", "bob", "new"):
        answer = await post(owner, "/v1/contacts", {"recipient": f"{person}@x.test", "remark": remark})
        assert answer.status_code == 200, answer.text
        ids.append(answer.json()["contact_id"])
    people = ["ann@x.test", f"contact:{ids[1]}", "new@x.test"]
    assert (await owner.put(f"/v1/contacts/{ids[0]}/remark", json={"remark": remark})).status_code == 204
    assert remark in [entry["remark"] for entry in (await owner.get("/v1/contacts")).json()["contacts"]]
    await post(
        owner, "/v1/bulk-shares", {"operation_id": "o", "device_ids": ["d0", "d1"], "recipients": people}
    )
    await command(owner, "RequestShare", {"device_ids": ["d2"], "recipients": people, "message": "Hello"})
    world.later(minutes=2)
    rows = await world.pool.fetch(
        "select share_id, contact_id, device_id, version, invitation_version from share"
    )
    async with world.api("ann") as ann, world.api("bob") as bob, world.api("rival") as rival:
        others = (ann, bob, rival)
        for row in rows:
            named = {"device_id": row["device_id"], "share_id": str(row["share_id"])}
            await command(owner, "ResendInvitation", named)
            terms = {"scope": {"kind": "all"}, "scripting": True}
            await command(
                owner, "ChangeShare", named | {"expected_version": row["version"] + 9, "terms": terms}
            )
            link = InvitationLink(
                share_id=row["share_id"], device_id=row["device_id"], contact_id=row["contact_id"],
                invitation_version=row["invitation_version"], purpose="accept",
                ends_at=world.now.replace(year=2030),
            )  # fmt: skip
            for client in others:
                await post(client, "/v1/invitation-links", {"token": sign_link(link, "s" * 32)})
                await command(
                    client, "AcceptShare", named | {"invitation_version": row["invitation_version"]}
                )
        for client in others:
            for path in ("/v1/contacts", "/v1/always-accept", "/v1/shares?device_id=d0"):
                answers.append((await client.get(path)).text)
            await post(client, "/v1/messages", {"share_ids": [str(row["share_id"]) for row in rows]})
            code = (await post(client, "/v1/contact-codes", None)).json()["code"]
            await post(owner, "/v1/contact-codes/scans", {"code": code})
            for name in ("RevokeShare", "RequestShare", "LeaveShare"):
                body = {"device_ids": ["d0"], "recipients": people[:1] if name != "LeaveShare" else []}
                await command(client, name, body)
            await command(client, "RemoveRecipient", {"recipient": f"contact:{ids[0]}"})
    await command(owner, "RevokeShare", {"device_ids": ["d1"], "recipients": people})
    await command(owner, "RemoveRecipient", {"recipient": "new@x.test"})
    await world.directory(world.device("d2", "ssh", owner="rival"), ("account", "bob"))
    return answers


async def found_in(world: Any) -> dict[str, int]:
    """Table → rows with the marker, bytes read as text."""
    dump = await world.dump()
    values = await world.pool.fetch("select value from outbox")
    dump["outbox"] = [row["value"].decode() for row in values]
    return {table: sum(MARKER in row for row in rows) for table, rows in dump.items() if rows}


@settings(
    max_examples=12,
    derandomize=True,
    phases=[Phase.generate],
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(remark=remarks)
async def test_a_remark_is_in_nothing_that_another_gets(
    world: Any, pool: pg.Pool, capsys: pytest.CaptureFixture[str], remark: str
) -> None:
    await pool.execute("truncate share, event, outbox, command, contact_book, contact, device_stream cascade")
    await world.directory(*(world.device(f"d{number}", "ssh", "web") for number in range(3)))
    async with world.api("owner", commands_per_minute=100_000) as owner:
        answers = await everything_happens(world, owner, remark)
    assert len(answers) > 60
    assert not [
        answer for answer in answers if MARKER in answer or MARKER in re.sub(r"\\u(....)", "", answer)
    ]
    found = await found_in(world)
    assert {"event", "outbox", "command", "share", "contact"} <= found.keys()
    assert {table for table, count in found.items() if count} <= {"contact_book"}
    printed = capsys.readouterr()
    assert "command_accepted" in printed.out
    assert MARKER not in printed.out + printed.err


@pytest.mark.slow
async def test_no_remark_reaches_the_broker(
    world: Any, start: Callable[[str], tuple[subprocess.Popen[bytes], str]], pool: pg.Pool,
    until: Callable[..., Awaitable[None]], read_topic: Callable[[str], Awaitable[list[Record]]],
) -> None:  # fmt: skip
    async with world.api("owner", commands_per_minute=100_000) as owner:
        await everything_happens(world, owner, f"before {MARKER} after")
    start("relay")

    async def all_is_sent() -> bool:
        return not await pool.fetchval("select exists (select from outbox)")

    await until(all_is_sent)
    for topic in ("share.events", "directory.contacts"):
        records = await read_topic(topic)
        assert records
        assert not [record for record in records if MARKER.encode() in (record.value or b"")]


# Whether an address has an account


SAVEPOINT = re.compile(r"__asyncpg_\w+")


async def asked(
    database: Any, world: Any, recipient: str, device: str, *, only: str = ""
) -> tuple[list[str], list[str], list[Any]]:
    """What is answered, which statements are run, and what is published, for requests to a recipient."""
    statements: list[str] = []

    async def watch(connection: Any) -> None:
        def note(record: Any) -> None:
            statements.append(SAVEPOINT.sub("", record.query))

        connection.add_query_logger(note)

    pool = await asyncpg.create_pool(database.dsn("share_command"), min_size=1, max_size=1, setup=watch)
    answers: list[str] = []
    try:
        handlers = Handlers(pool, lambda: None, clock=world.clock)
        async with world.api("owner", handlers=handlers) as owner:
            body = {"device_ids": [device], "recipients": [recipient], "message": "Hello"}
            for path, name in (
                ("/v1/explanations/RequestShare", {"command_id": f"e-{device}"}),
                ("/v1/commands/RequestShare", {"command_id": f"c-{device}"}),
                ("/v1/commands/RequestShare", {"command_id": f"c-{device}"}),
                ("/v1/bulk-shares", {"operation_id": f"o-{device}"}),
                ("/v1/contacts", {"recipient": recipient}),
                ("/v1/commands/RevokeShare", {"command_id": f"r-{device}"}),
                ("/v1/explanations/RemoveRecipient", {"command_id": f"x-{device}"}),
                ("/v1/commands/RemoveRecipient", {"command_id": f"d-{device}"}),
            ):
                if only not in path:
                    continue
                fields: dict[str, Any] = {**name, **body}
                if "RequestShare" not in path and "bulk" not in path:
                    del fields["message"]
                if "Recipient" in path:
                    fields = {**name, "recipient": recipient}
                elif "contacts" in path:
                    fields = name
                answer = await owner.post(path, json=fields)
                assert answer.status_code == 200, answer.text
                headers = {key: value for key, value in answer.headers.items() if key != "x-correlation-id"}
                answers.append(f"{answer.status_code} {headers} {answer.text}")
    finally:
        await pool.close()
    published = [
        json.loads(message.model_dump_json(exclude={"correlationid"}))
        for message in await world.events(device)
    ]
    return answers, statements, published


UUID_TEXT = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


@pytest.mark.parametrize(
    ("known", "unknown"), [("ann@x.test", "zed@x.test"), ("+4915112345678", "+4915112345679")]
)
async def test_an_address_with_an_account_is_like_one_without(
    world: Any, database: Any, known: str, unknown: str
) -> None:
    """The same bytes but for ids, the same statements in the same number and order, the same events."""
    await world.pool.execute("insert into account_address values ('bob', 'tel:+4915112345678')")
    async with world.api("bob") as bob:
        await bob.put("/v1/always-accept/rival")  # a rule for somebody else changes nothing
    seen: list[tuple[list[str], list[str], str]] = []
    for recipient, device in ((known, "d1"), (unknown, "d2")):
        answers, statements, published = await asked(database, world, recipient, device)

        def alike(text: str, recipient: str = recipient, device: str = device) -> str:
            return UUID_TEXT.sub("<id>", text).replace(recipient, "<recipient>").replace(device, "<device>")

        seen.append(([alike(answer) for answer in answers], statements, alike(json.dumps(published))))
    assert seen[0][0] == seen[1][0]
    assert len(seen[0][1]) > 50
    assert seen[0][1] == seen[1][1]
    assert seen[0][2] == seen[1][2]


async def test_an_address_that_another_shares_with_is_like_one_that_nobody_does(
    world: Any, database: Any
) -> None:
    """The same answers and the same statements, also for whom one takes away that was never there."""
    await world.directory(world.device("r0", "ssh", owner="rival"))
    await world.handle(
        RequestShare, "r1", "rival", device_ids=("r0",), recipients=("zed@x.test", "ned@x.test")
    )
    seen: list[tuple[list[str], list[str]]] = []
    for recipient, removed, device in (
        ("zed@x.test", "ned@x.test", "d1"),
        ("new@x.test", "fresh@x.test", "d2"),
    ):
        taken, first, _ = await asked(database, world, removed, f"without-{device}", only="Recipient")
        given, second, _ = await asked(database, world, recipient, device)

        def alike(text: str, recipient: str = recipient, device: str = device) -> str:
            return UUID_TEXT.sub("<id>", text).replace(recipient, "<recipient>").replace(device, "<device>")

        seen.append(([alike(answer) for answer in taken + given], first + second))
    assert seen[0][0] == seen[1][0]
    assert seen[0][1] == seen[1][1]


async def test_who_has_a_rule_is_known_by_what_he_chose(world: Any) -> None:
    """The one difference: a recipient told us to accept from this owner."""
    async with world.api("ann") as ann:
        await ann.put("/v1/always-accept/owner")
    await world.handle(
        RequestShare, "c1", "owner", device_ids=("d0",), recipients=("ann@x.test", "bob@x.test")
    )
    assert await world.live() == [("d0", "active"), ("d0", "requested")]
