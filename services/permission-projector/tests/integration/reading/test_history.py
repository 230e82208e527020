"""What happened, to whom it is told, and who had access at a time."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from contracts.base import new_id
from contracts.events import (
    RevokeReason,
    ShareAccepted,
    ShareChanged,
    ShareLeft,
    ShareRequested,
    ShareRevoked,
)
from contracts.permissions import AllServices, Permission, SomeServices, Terms
from permission_projector.looking_back import who_had_access, why
from servicekit import pg

People = dict[str, UUID]
START = datetime(2026, 1, 1, tzinfo=UTC)
SQL = pg.load_queries("permission_projector", "history.sql")
SSH_ONLY = Terms(scope=SomeServices(services={"ssh": "all"}), scripting=True)
ALL = Terms(scope=AllServices())
LIVE_VIEW = Terms(scope=AllServices(permissions=frozenset({Permission.LIVE_VIEW})))


def after(version: int) -> datetime:
    """A time at which the device's event of this version was the last (`World` makes one each second)."""
    return START + timedelta(seconds=version + 0.5)


@pytest.fixture
async def story(world: Any) -> dict[str, Any]:
    """cam-1 of olga. Versions 1-2: ravi has it; 3-4: tara; 5: only ssh is left to ravi; 6: tara's is taken
    back; 7: ravi leaves; 8: he is asked again; 9: nora, who has his address by now, accepts."""
    ravi: dict[str, Any] = {
        "share_id": new_id(), "device_id": "cam-1", "contact_id": new_id(), "owner_account_id": "olga"
    }  # fmt: skip
    tara: dict[str, Any] = {**ravi, "share_id": new_id(), "contact_id": new_id()}
    await world.apply(
        world.device("cam-1", services={"ssh": [Permission.CONNECT], "web": [Permission.LIVE_VIEW]}),
        world.device("pc-2", name="Other"),
        *(world.account(name) for name in ("olga", "ravi", "tara", "nora", "mallory")),
        world.contact(ravi["contact_id"], "mailto:ravi@example.com"),
        world.event(ShareRequested(**ravi, terms=ALL), 1),
        world.event(ShareAccepted(**ravi, account_id="ravi"), 2),
        world.event(ShareRequested(**tara, terms=LIVE_VIEW), 3),
        world.event(ShareAccepted(**tara, account_id="tara"), 4),
        world.event(ShareChanged(**ravi, terms=SSH_ONLY, state="active"), 5),
        world.event(ShareRevoked(**tara, reason=RevokeReason.BY_OWNER, account_id="tara"), 6),
        world.event(ShareLeft(**ravi, account_id="ravi"), 7),
        world.event(ShareRequested(**ravi, terms=ALL), 8),
        world.event(ShareAccepted(**ravi, account_id="nora"), 9),
    )
    return {"ravi": ravi, "tara": tara}


async def versions(api: Any, account: str, **query: Any) -> list[int]:
    pages = await api.pages(account, "/devices/cam-1/history", **query)
    return [item["version"] for page in pages for item in page]


async def test_the_owner_sees_everything_that_happened_newest_first(api: Any, story: Any) -> None:
    assert await versions(api, "olga") == [9, 8, 7, 6, 5, 4, 3, 2, 1]
    assert await versions(api, "olga", size=2) == [9, 8, 7, 6, 5, 4, 3, 2, 1]
    items = (await api.get("olga", "/devices/cam-1/history")).json()["items"]
    newest, revoked, changed, first = items[0], items[3], items[4], items[-1]
    assert (newest["kind"], newest["state"], newest["terms"]) == ("ShareAccepted", "active", None)
    assert newest["account"] == {"account_id": "nora", "name": "Nora"}
    assert (revoked["state"], revoked["reason"]) == ("revoked", "by_owner")
    assert changed["terms"] == json.loads(SSH_ONLY.model_dump_json())
    assert (first["kind"], first["account"], first["email"]) == ("ShareRequested", None, "ravi@example.com")
    assert datetime.fromisoformat(first["at"]) == START + timedelta(seconds=1)


async def test_a_recipient_sees_his_own_shares_from_the_request_that_he_accepted_on(
    api: Any, story: Any
) -> None:
    assert await versions(api, "ravi") == [7, 5, 2, 1]
    assert await versions(api, "nora") == [9, 8]
    assert await versions(api, "tara") == [6, 4, 3]
    text = (await api.get("tara", "/devices/cam-1/history")).text
    assert "ravi" not in text
    assert "nora" not in text


async def test_a_former_owner_sees_what_he_gave_and_the_new_one_what_he_gives(
    world: Any, api: Any, story: Any
) -> None:
    await world.apply(
        world.device("cam-1", owner="mallory"),
        *world.shared("tara", owner="mallory", first_version=10),
    )
    assert await versions(api, "olga") == [9, 8, 7, 6, 5, 4, 3, 2, 1]
    assert await versions(api, "mallory") == [11, 10]
    assert await versions(api, "tara") == [11, 10, 6, 4, 3]


@pytest.mark.parametrize("part", ["history", "connections", "access", "access?at=2026-01-02T00:00:00Z"])
async def test_who_has_nothing_to_do_with_a_device_learns_nothing(api: Any, story: Any, part: str) -> None:
    foreign = await api.get("mallory", f"/devices/cam-1/{part}")
    missing = await api.get("mallory", f"/devices/cam-7/{part}")
    assert foreign.status_code == missing.status_code == 404
    assert foreign.text.replace("cam-1", "cam-7") == missing.text


async def test_a_device_without_a_history_has_an_empty_one(api: Any, story: Any) -> None:
    assert (await api.get("olga", "/devices/pc-2/history")).json() == {"items": [], "next": None}
    assert (await api.get("olga", "/devices/pc-2/connections")).json() == {"items": [], "next": None}


async def test_shares_that_one_gave_and_had(world: Any, api: Any, story: Any) -> None:
    await world.apply(
        world.device("nora-1", owner="nora", name="Nora's"),
        *world.shared("olga", device_id="nora-1", owner="nora"),
    )
    items = (await api.get("olga", "/history")).json()["items"]
    assert [(item["device_id"], item["given"], item["state"]) for item in items] == [
        ("nora-1", False, "active"), ("cam-1", True, "revoked"), ("cam-1", True, "active"),
    ]  # fmt: skip
    assert [item["device_name"] for item in items] == ["Nora's", "Camera", "Camera"]
    assert (items[2]["email"], items[2]["account"]["name"]) == ("ravi@example.com", "Nora")
    assert items[0]["owner"] == {"account_id": "nora", "name": "Nora"}
    pages = await api.pages("olga", "/history", size=1)
    assert [item for page in pages for item in page] == items
    given = (await api.get("olga", "/history", given=True)).json()["items"]
    assert given == items[1:]
    assert (await api.get("olga", "/history", given=False)).json()["items"] == items[:1]
    (had,) = (await api.get("tara", "/history")).json()["items"]
    assert (had["state"], had["device_name"], had["email"], had["given"]) == ("revoked", None, None, False)
    assert (await api.get("mallory", "/history")).json() == {"items": [], "next": None}


@pytest.mark.parametrize(
    ("version", "people"),
    [
        (0, []),
        (1, []),
        (2, [("ravi", 2)]),
        (4, [("ravi", 2), ("tara", 4)]),
        (5, [("tara", 4), ("ravi", 5)]),
        (6, [("ravi", 5)]),
        (8, []),
        (9, [("nora", 9)]),
    ],
)
async def test_who_had_access_at_a_time_and_by_which_event(
    world: Any, api: Any, story: Any, version: int, people: list[tuple[str, int]]
) -> None:
    found = await who_had_access(world.pool, SQL, "cam-1", None, after(version))
    assert (found[0].role, found[0].account.account_id, found[0].by) == ("owner", "olga", None)
    assert [(item.account.account_id, item.by and item.by.version) for item in found[1:]] == people
    asked = {"at": after(version).isoformat()}
    answer = (await api.get("olga", "/devices/cam-1/access", **asked)).json()["items"]
    assert [item["account"]["account_id"] for item in answer] == ["olga", *(name for name, _ in people)]


async def test_an_event_counts_from_its_own_time_on(world: Any, story: Any) -> None:
    at = START + timedelta(seconds=2)
    assert len(await who_had_access(world.pool, SQL, "cam-1", None, at)) == 2
    assert len(await who_had_access(world.pool, SQL, "cam-1", None, at - timedelta(microseconds=1))) == 1


async def test_who_had_a_service_and_with_which_permissions(world: Any, story: Any) -> None:
    async def had(service: str, version: int) -> dict[str, Any]:
        found = await who_had_access(world.pool, SQL, "cam-1", service, after(version))
        return {item.account.account_id: item.permissions for item in found[1:]}

    assert await had("web", 4) == {"ravi": "all", "tara": {"live_view"}}
    assert await had("web", 5) == {"tara": {"live_view"}}
    assert await had("ssh", 5) == {"tara": {"live_view"}, "ravi": "all"}


async def test_a_window_is_honoured_when_looking_back(world: Any, api: Any, story: Any) -> None:
    hours = [START + timedelta(hours=number) for number in range(5)]
    terms = Terms(scope=AllServices(), starts_at=hours[1], ends_at=hours[3])
    await world.apply(*world.shared("tara", device_id="pc-2", terms=terms))
    for at, had in zip(hours, [False, True, True, False, False], strict=True):
        found = await who_had_access(world.pool, SQL, "pc-2", None, at + timedelta(minutes=1))
        assert ("tara" in {item.account.account_id for item in found}) == had
    verdicts = [
        (
            await why(world.pool, SQL, "tara", "pc-2", "ssh", Permission.CONNECT, at + timedelta(minutes=1))
        ).reason
        for at in hours
    ]
    assert verdicts == ["not_begun", "granted", "granted", "over", "over"]


async def test_an_owner_is_told_of_his_own_shares_only(world: Any, api: Any, story: Any) -> None:
    await world.apply(world.device("cam-1", owner="mallory"))
    asked = {"at": after(4).isoformat()}
    assert (await api.get("mallory", "/devices/cam-1/access", **asked)).json() == {"items": []}
    assert (await api.get("olga", "/devices/cam-1/access", **asked)).status_code == 404
    assert (await api.get("tara", "/devices/cam-1/access", **asked)).status_code == 404


@pytest.mark.parametrize(
    ("account", "service", "permission", "version", "allowed", "reason", "by"),
    [
        ("olga", "ssh", "connect", 0, True, "owner", None),
        ("ravi", "web", "live_view", 0, False, "no_share", None),
        ("ravi", "web", "live_view", 1, False, "no_share", None),
        ("ravi", "web", "live_view", 2, True, "granted", 2),
        ("ravi", "web", "scripting", 2, False, "permission_not_given", 2),
        ("ravi", "web", "live_view", 5, False, "service_not_shared", 5),
        ("ravi", "ssh", "scripting", 5, True, "granted", 5),
        ("ravi", "ssh", "connect", 7, False, "left", 7),
        ("ravi", "ssh", "connect", 8, False, "not_his_any_more", 8),
        ("ravi", "ssh", "connect", 9, False, "not_his_any_more", 9),
        ("nora", "ssh", "connect", 9, True, "granted", 9),
        ("tara", "web", "live_view", 4, True, "granted", 4),
        ("tara", "web", "connect", 4, False, "permission_not_given", 4),
        ("tara", "web", "live_view", 6, False, "revoked", 6),
        ("mallory", "web", "live_view", 6, False, "no_share", None),
    ],
)
async def test_why(  # noqa: PLR0917 - the columns of its table
    world: Any,
    story: Any,
    account: str,
    service: str,
    permission: str,
    version: int,
    allowed: bool,
    reason: str,
    by: int | None,
) -> None:
    found = await why(world.pool, SQL, account, "cam-1", service, Permission(permission), after(version))
    assert (found.allowed, found.reason, found.by and found.by.version) == (allowed, reason, by)


async def test_why_names_every_step(world: Any, story: Any) -> None:
    found = await why(world.pool, SQL, "ravi", "cam-1", "ssh", Permission.CONNECT, after(7))
    assert [
        (step.event.version, step.event.kind, step.state.value, step.verdict) for step in found.steps
    ] == [
        (1, "ShareRequested", "requested", None),
        (2, "ShareAccepted", "active", None),
        (5, "ShareChanged", "active", None),
        (7, "ShareLeft", "left", "left"),
    ]
    assert [step.terms for step in found.steps] == [ALL, ALL, SSH_ONLY, SSH_ONLY]


async def connected(  # noqa: PLR0917 - as many as tell of one connection
    world: Any,
    account: str,
    device_id: str,
    minute: float,
    outcome: str = "closed",
    share_id: UUID | None = None,
) -> UUID:
    connection_id = new_id()
    at = START + timedelta(minutes=minute)
    await world.pool.execute(
        "insert into permission_projector.connection (connection_id, device_id, service_id, account_id,"
        " permission, gateway_id, opened_at, ended_at, outcome, share_id) values ($1, $2, 'ssh', $3,"
        " 'connect', 'gw', $4, $5, $6, $7)",
        connection_id, device_id, account, None if outcome == "refused" else at,
        None if outcome == "open" else at + timedelta(seconds=5), outcome, share_id,
    )  # fmt: skip
    return connection_id


async def test_an_owner_sees_all_connections_to_his_devices_and_others_their_own(
    world: Any, api: Any, story: Any
) -> None:
    share_id = story["ravi"]["share_id"]
    nora = [await connected(world, "nora", "cam-1", minute, share_id=share_id) for minute in (1, 4)]
    olga = await connected(world, "olga", "cam-1", 2, "open")
    tara = await connected(world, "tara", "cam-1", 3, "refused")
    elsewhere = await connected(world, "nora", "nora-1", 5, "open")

    async def ids(account: str, path: str, **query: Any) -> list[str]:
        return [item["connection_id"] for page in await api.pages(account, path, **query) for item in page]

    every = [str(found) for found in (nora[1], tara, olga, nora[0])]
    for size in (1, 3, 100):
        assert await ids("olga", "/devices/cam-1/connections", size=size) == every
        assert await ids("olga", "/connections", size=size) == every
        assert await ids("nora", "/connections", size=size) == [
            str(found) for found in (elsewhere, nora[1], nora[0])
        ]
    assert await ids("nora", "/devices/cam-1/connections") == [str(nora[1]), str(nora[0])]
    assert await ids("tara", "/devices/cam-1/connections") == [str(tara)]
    assert await ids("olga", "/connections", open=True) == [str(olga)]
    assert await ids("nora", "/connections", open=True) == [str(elsewhere)]
    assert await ids("mallory", "/connections") == []
    (found,) = (await api.get("tara", "/connections")).json()["items"]
    assert (found["outcome"], found["account"]) == ("refused", {"account_id": "tara", "name": "Tara"})


async def test_a_new_owner_sees_the_connections_since_the_device_is_his(
    world: Any, api: Any, story: Any
) -> None:
    """Neither who connected, or tried to, under the former owner, nor that one himself."""
    before = [
        await connected(world, "nora", "cam-1", 0.15, share_id=story["ravi"]["share_id"]),
        await connected(world, "olga", "cam-1", 0.16),
        await connected(world, "ravi", "cam-1", 0.05, "refused"),
    ]
    late = await connected(world, "olga", "cam-1", 0.5)  # the gateways do not know it yet
    await world.apply(
        world.device("cam-1", owner="mallory"),
        world.event(
            ShareRevoked(**story["ravi"], reason=RevokeReason.OWNERSHIP_TRANSFERRED, account_id="nora"), 10
        ),
        *world.shared("tara", owner="mallory", first_version=11),
    )
    since = [
        await connected(world, "tara", "cam-1", 1, share_id=new_id()),
        await connected(world, "mallory", "cam-1", 2),
        await connected(world, "ravi", "cam-1", 3, "refused"),
    ]

    async def ids(account: str, path: str, **query: Any) -> set[str]:
        answer: Any = (await api.get(account, path, **query)).json()
        items: list[Any] = answer["devices"][0]["items"] if "devices" in answer else answer["items"]
        return {item["connection_id"] if "connection_id" in item else item["event_id"] for item in items}

    for path, query in (
        ("/devices/cam-1/connections", {}),
        ("/connections", {}),
        ("/events", {"type": "connection"}),
        ("/device-events", {"type": "connection", "id": "cam-1"}),
    ):
        assert await ids("mallory", path, **query) == {str(found) for found in since}, path
        assert await ids("olga", path, **query) == {str(before[1]), str(late)}, "her own stay hers"
        assert await ids("nora", path, **query) == {str(before[0])}
    total = (await api.get("mallory", "/events", type="connection", total=True)).json()["total"]
    assert total == 3
