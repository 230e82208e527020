"""The read API over HTTP: who sees what, pages, invitations, and waiting for a position."""

import asyncio
import base64
import json
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from contracts import topics
from contracts.base import new_id
from contracts.directory import AccountSnapshot
from contracts.events import InvitationResent, RevokeReason, ShareAccepted, ShareExpired, ShareRevoked
from contracts.permissions import AllServices, Permission, SomeServices, Terms
from permission_projector.app import SERVE_SESSION
from permission_projector.generation import LIVE, create_indexes, create_tables
from permission_projector.reader import Access, Device, DevicePage
from servicekit import pg

People = dict[str, UUID]
SSH_ONLY = Terms(scope=SomeServices(services={"ssh": "all"}), scripting=True)


async def test_me(api: Any, people: People) -> None:
    answer = await api.get("olga", "/me")
    assert answer.json() == {"account_id": "olga", "name": "Olga", "email": "olga@example.com"}
    unknown = await api.get("nobody-yet", "/me")
    assert unknown.json() == {"account_id": "nobody-yet", "name": None, "email": None}


async def test_an_owner_sees_his_device_whole_and_everybody_on_it(api: Any, people: People) -> None:
    answer = await api.get("olga", "/devices/cam-1")
    assert answer.headers["Latchkey-Position"] == "cam-1@3"
    device = answer.json()
    assert device["owner"] == {"account_id": "olga", "name": "Olga", "email": "olga@example.com"}
    assert (device["owned"], device["share_state"], device["scripting"]) == (True, "out", True)
    assert {item["service_id"]: item["permissions"] for item in device["services"]} == {
        "ssh": ["connect"], "web": ["ptz"],
    }  # fmt: skip
    assert [(item["email"], item["state"], item["account_id"]) for item in device["access"]] == [
        ("ravi@example.com", "active", "ravi"),
        ("sara@example.com", "requested", None),
    ]
    assert device["access"][0]["terms"] == json.loads(SSH_ONLY.model_dump_json())
    assert (await api.get("olga", "/devices/pc-2")).json()["share_state"] == "none"


async def test_a_recipient_sees_what_was_shared_with_him_and_of_the_others_nothing(
    world: Any, api: Any, people: People
) -> None:
    await world.apply(*world.shared("tara", first_version=4))
    device = (await api.get("ravi", "/devices/cam-1")).json()
    assert (device["owned"], device["share_state"], device["scripting"]) == (False, "in", True)
    assert [(item["service_id"], item["permissions"]) for item in device["services"]] == [
        ("ssh", ["connect", "scripting"])
    ]
    assert [item["email"] for item in device["access"]] == ["ravi@example.com"]
    assert "sara" not in json.dumps(device)
    assert "tara" not in json.dumps(device)


async def test_several_shares_with_one_account_show_their_union(world: Any, api: Any, people: People) -> None:
    terms = Terms(scope=SomeServices(services={"web": "all"}))
    await world.apply(*world.shared("ravi", terms=terms, first_version=4, contact_id=new_id()))
    device = (await api.get("ravi", "/devices/cam-1")).json()
    assert [(item["service_id"], item["permissions"]) for item in device["services"]] == [
        ("ssh", ["connect", "scripting"]), ("web", ["ptz"]),
    ]  # fmt: skip
    assert len(device["access"]) == 2


def _in(hours: float) -> datetime:
    return datetime.now(UTC) + timedelta(hours=hours)


def _window(start: float | None, end: float | None) -> Terms:
    return Terms(
        scope=AllServices(),
        scripting=True,
        starts_at=None if start is None else _in(start),
        ends_at=None if end is None else _in(end),
    )


async def test_a_share_that_has_not_begun_shows_the_device_and_gives_nothing(
    world: Any, api: Any, people: People
) -> None:
    terms = _window(1, 2)
    await world.apply(world.account("tara"), *world.shared("tara", terms=terms, first_version=4))
    device = (await api.get("tara", "/devices/cam-1")).json()
    assert (device["share_state"], device["scripting"], device["services"]) == ("in", False, [])
    assert [item["terms"] for item in device["access"]] == [json.loads(terms.model_dump_json())]
    await world.apply(*world.shared("tara", terms=SSH_ONLY, first_version=6))
    device = (await api.get("tara", "/devices/cam-1")).json()
    assert [(item["service_id"], item["permissions"]) for item in device["services"]] == [
        ("ssh", ["connect", "scripting"])
    ]


async def test_a_share_within_its_window_is_like_any_other(world: Any, api: Any, people: People) -> None:
    await world.apply(*world.shared("tara", terms=_window(-1, 1), first_version=4))
    device = (await api.get("tara", "/devices/cam-1")).json()
    assert device["scripting"]
    assert [item["permissions"] for item in device["services"]] == [
        ["connect", "scripting"], ["ptz", "scripting"],
    ]  # fmt: skip


async def test_a_share_that_is_over_is_gone_for_both_before_any_event_tells(
    world: Any, api: Any, people: People
) -> None:
    before = (await api.get("olga", "/devices/cam-1")).json()["access"]
    await world.apply(*world.shared("tara", terms=_window(-2, -1), first_version=4))
    assert await api.ids("tara") == []
    assert (await api.get("tara", "/devices/cam-1")).status_code == 404
    assert (await api.get("olga", "/devices/cam-1")).json()["access"] == before


async def test_an_expired_share_is_gone(world: Any, api: Any, people: People) -> None:
    entry = (await api.get("ravi", "/devices/cam-1")).json()["access"][0]
    expired = ShareExpired(
        share_id=entry["share_id"], device_id="cam-1", contact_id=people["ravi"], owner_account_id="olga",
        account_id="ravi",
    )  # fmt: skip
    await world.apply(world.event(expired, 4))
    assert await api.ids("ravi") == []


async def test_an_owner_is_told_what_he_must_name_to_edit_and_until_when_an_invitation_waits(
    world: Any, api: Any, people: People
) -> None:
    until = _in(1).replace(microsecond=0)
    await world.apply(*world.shared(None, device_id="pc-2", contact_id=people["sara"], expires_at=until))
    (entry,) = (await api.get("olga", "/devices/pc-2")).json()["access"]
    assert (datetime.fromisoformat(entry["expires_at"]), entry["version"]) == (until, 1)
    later = until + timedelta(hours=1)
    resent = InvitationResent(
        share_id=entry["share_id"], device_id="pc-2", contact_id=people["sara"], owner_account_id="olga",
        expires_at=later,
    )  # fmt: skip
    await world.apply(world.event(resent, 2))
    (entry,) = (await api.get("olga", "/devices/pc-2")).json()["access"]
    assert (datetime.fromisoformat(entry["expires_at"]), entry["version"]) == (later, 2)
    told = {
        item["device_id"]: (item["invitation_version"], item["expires_at"])
        for item in (await api.get("sara", "/invitations")).json()["items"]
    }
    assert told["cam-1"] == (3, None)
    assert (told["pc-2"][0], datetime.fromisoformat(told["pc-2"][1])) == (1, later)
    accepted = ShareAccepted(
        share_id=entry["share_id"], device_id="pc-2", contact_id=people["sara"], owner_account_id="olga",
        account_id="sara",
    )  # fmt: skip
    await world.apply(world.event(accepted, 3))
    (entry,) = (await api.get("olga", "/devices/pc-2")).json()["access"]
    assert (entry["expires_at"], entry["version"]) == (None, 3)


@pytest.mark.parametrize("how", ["the invitation has expired", "the share would be over"])
async def test_an_invitation_that_has_run_out_is_not_offered_any_more(
    world: Any, api: Any, people: People, how: str
) -> None:
    terms, expires_at = (_window(-2, -1), None) if "over" in how else (_window(1, 2), _in(-1))
    await world.apply(
        *world.shared(None, device_id="pc-2", contact_id=people["sara"], terms=terms, expires_at=expires_at)
    )
    items = (await api.get("sara", "/invitations")).json()["items"]
    assert [item["device_id"] for item in items] == ["cam-1"]
    assert (await api.get("olga", "/devices/pc-2")).json()["share_state"] == "none"


async def test_who_was_invited_by_telephone_is_shown_by_his_number_and_finds_the_invitation(
    world: Any, api: Any, people: People
) -> None:
    tara = new_id()
    await world.apply(
        world.account("tara", "tara@example.com", phones=("+49 151 12345678",)),
        world.contact(tara, "tel:+4915112345678"),
        *world.shared(None, device_id="pc-2", contact_id=tara),
    )
    (entry,) = (await api.get("olga", "/devices/pc-2")).json()["access"]
    assert (entry["email"], entry["phone"]) == (None, "+4915112345678")
    entry = (await api.get("olga", "/devices/cam-1")).json()["access"][0]
    assert (entry["email"], entry["phone"]) == ("ravi@example.com", None)
    (item,) = (await api.get("tara", "/invitations")).json()["items"]
    assert item["device_id"] == "pc-2"


async def test_an_account_is_shown_by_its_e_mail_address_only(world: Any, api: Any, people: People) -> None:
    snapshot = AccountSnapshot(account_id="olga", name="Olga", verified_phones=("+4915112345678",))
    await world.apply(world.raw(topics.DIRECTORY_ACCOUNTS, b"olga", world.bytes_of(snapshot)))
    assert (await api.get("olga", "/me")).json()["email"] is None
    assert (await api.get("ravi", "/devices/cam-1")).json()["owner"]["email"] is None
    assert (await api.get("sara", "/invitations")).json()["items"][0]["owner"]["email"] is None


@pytest.mark.parametrize("account", ["mallory", "sara", "nobody-yet"])
async def test_a_stranger_learns_nothing(api: Any, people: People, account: str) -> None:
    assert await api.ids(account) == (["mal-9"] if account == "mallory" else [])
    assert await api.ids(account, id=["cam-1", "pc-2"]) == []
    foreign = await api.get(account, "/devices/cam-1")
    missing = await api.get(account, "/devices/cam-7")
    assert foreign.status_code == missing.status_code == 404
    assert foreign.json()["error"]["code"] == "DEVICE_NOT_FOUND"
    assert foreign.text.replace("cam-1", "cam-7") == missing.text
    if account != "sara":
        assert (await api.get(account, "/invitations")).json() == {"items": [], "next": None}


async def test_a_stranger_cannot_feel_out_a_device_by_its_position(api: Any, people: People) -> None:
    foreign = await api.get("mallory", "/me", position="cam-1@1", wait=0)
    missing = await api.get("mallory", "/me", position="cam-7@1", wait=0)
    assert foreign.status_code == missing.status_code == 503
    assert foreign.text.replace("cam-1", "cam-7") == missing.text
    assert (await api.get("sara", "/me", position="cam-1@3", wait=0)).status_code == 200


async def test_an_end_takes_the_device_from_the_list(world: Any, api: Any, people: People) -> None:
    assert await api.ids("ravi") == ["cam-1"]
    share = (await api.get("ravi", "/devices/cam-1")).json()["access"][0]["share_id"]
    revoked = ShareRevoked(
        share_id=share, device_id="cam-1", contact_id=people["ravi"], owner_account_id="olga",
        reason=RevokeReason.BY_OWNER,
    )  # fmt: skip
    await world.apply(world.event(revoked, 4))
    assert await api.ids("ravi") == []
    device = (await api.get("olga", "/devices/cam-1")).json()
    assert [item["email"] for item in device["access"]] == ["sara@example.com"]


async def test_a_quarantined_device_is_shown_to_its_owner_only(world: Any, api: Any, people: People) -> None:
    await world.apply(world.raw(topics.SHARE_EVENTS, b"cam-1", b"{}"))
    assert await api.ids("ravi") == []
    assert (await api.get("sara", "/invitations")).json() == {"items": [], "next": None}
    assert "cam-1" in await api.ids("olga")


async def test_invitations_are_for_the_account_that_has_verified_the_address(
    world: Any, api: Any, people: People
) -> None:
    answer = await api.get("sara", "/invitations")
    assert answer.headers["Latchkey-Position"] == "cam-1@3"
    (item,) = answer.json()["items"]
    assert (item["device_id"], item["device_name"], item["invitation_version"]) == ("cam-1", "Camera", 3)
    assert item["owner"] == {"account_id": "olga", "name": "Olga", "email": "olga@example.com"}
    assert item["terms"] == json.loads(Terms(scope=AllServices()).model_dump_json())
    assert item["service_names"] == {}
    assert (await api.get("ravi", "/invitations")).json() == {"items": [], "next": None}
    await world.apply(world.account("sara", "new@example.com"))
    assert (await api.get("sara", "/invitations")).json() == {"items": [], "next": None}
    await world.apply(world.account("mallory", "Sara@Example.com"))
    assert len((await api.get("mallory", "/invitations")).json()["items"]) == 1


async def test_an_invitation_to_some_services_names_those_only(world: Any, api: Any, people: People) -> None:
    dora = new_id()
    await world.apply(
        world.account("dora"),
        world.contact(dora, "mailto:dora@example.com"),
        *world.shared(None, terms=SSH_ONLY, first_version=4, contact_id=dora),
    )
    (item,) = (await api.get("dora", "/invitations")).json()["items"]
    assert item["service_names"] == {"ssh": "SSH"}


async def test_the_list_is_filtered_sorted_and_cut_into_pages(api: Any, people: People) -> None:
    assert await api.ids("olga", sort="created") == ["cam-1", "pc-2"]
    assert await api.ids("olga", sort="-created") == ["pc-2", "cam-1"]
    assert await api.ids("olga") == ["cam-1", "pc-2"]
    assert await api.ids("olga", sort="-name") == ["pc-2", "cam-1"]
    assert await api.ids("olga", name="BÜRO_") == ["pc-2"]
    assert await api.ids("olga", name="%") == []
    assert await api.ids("olga", owner=False) == []
    assert await api.ids("ravi", owner=True) == []
    assert await api.ids("ravi", owner=False) == ["cam-1"]
    assert await api.ids("olga", id=["pc-2", "mal-9"]) == ["pc-2"]
    page = (await api.get("olga", "/devices", size=1, sort="created")).json()
    assert (page["total"], page["hasMore"], len(page["items"])) == (2, True, 1)
    page = (await api.get("olga", "/devices", start=1, size=1, sort="created")).json()
    assert (page["total"], page["hasMore"], page["items"][0]["device_id"]) == (2, False, "pc-2")
    assert (await api.get("olga", "/devices", start=9)).json()["total"] == 2


def _cursor(*values: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(values).encode()).decode().rstrip("=")


@pytest.mark.parametrize("sort", ["name", "-name", "created", "-created"])
async def test_pages_by_cursor_are_the_list_each_device_once(
    world: Any, api: Any, people: People, sort: str
) -> None:
    """Own devices and others', some with one name, some that nobody dated."""
    await world.apply(
        *(world.device(f"twin-{n}", name="Same", created_at=None) for n in range(3)),
        *(world.device(f"late-{n}", name=f"Late {n}") for n in range(3)),
        world.device("theirs", owner="mallory", name="Late 1"),
        *world.shared("olga", device_id="theirs", owner="mallory"),
    )
    whole = await api.ids("olga", sort=sort)
    assert len(whole) == 9
    for size in (1, 2, 4, 9):
        pages = await api.pages("olga", "/devices", sort=sort, size=size)
        assert [item["device_id"] for page in pages for item in page] == whole
        assert {len(page) for page in pages[:-1]} <= {size}
        by_place = [(await api.ids("olga", sort=sort, size=size, start=start)) for start in range(0, 9, size)]
        assert [device_id for page in by_place for device_id in page] == whole


async def test_a_page_that_goes_on_counts_nothing_unless_asked(api: Any, people: People) -> None:
    first = (await api.get("olga", "/devices", size=1)).json()
    assert (first["total"], first["hasMore"]) == (2, True)
    last = (await api.get("olga", "/devices", size=1, cursor=first["next"])).json()
    assert (last["total"], last["hasMore"], last["next"]) == (None, False, None)
    counted = (await api.get("olga", "/devices", size=1, cursor=first["next"], total=True)).json()
    assert counted["total"] == 2
    assert (await api.get("olga", "/devices", size=1, total=False)).json()["total"] is None


async def test_what_comes_and_goes_between_two_pages_moves_no_other_device(
    world: Any, api: Any, people: People
) -> None:
    first = (await api.get("olga", "/devices", size=1)).json()
    assert [item["device_id"] for item in first["items"]] == ["cam-1"]
    await world.apply(world.device("aaa", name="Aaa"))
    await world.apply(world.raw(topics.DIRECTORY_DEVICES, b"cam-1", None))
    assert await api.ids("olga", cursor=first["next"]) == ["pc-2"]


async def test_filters(world: Any, api: Any, people: People) -> None:
    await world.apply(*world.shared("olga", device_id="mal-9", owner="mallory"))
    assert await api.ids("olga", kind="camera") == ["cam-1", "mal-9", "pc-2"]
    assert await api.ids("olga", kind=["computer", "recorder"]) == []
    assert await api.ids("olga", shared="out") == ["cam-1"]
    assert await api.ids("olga", shared="none") == ["pc-2"]
    assert await api.ids("olga", shared="in") == ["mal-9"]
    assert await api.ids("olga", shared_with="ravi") == ["cam-1"]
    assert await api.ids("olga", shared_with="sara") == []
    assert await api.ids("olga", shared_with="olga") == []
    assert await api.ids("olga", shared_with_contact=str(people["sara"])) == ["cam-1"]
    assert await api.ids("olga", shared_with_contact=str(new_id())) == []
    assert await api.ids("ravi", shared_with="sara") == []
    assert await api.ids("ravi", shared_with_contact=str(people["sara"])) == []
    assert (await api.get("olga", "/devices", shared="out", size=1)).json()["total"] == 1


async def test_a_list_shows_the_first_of_many_and_the_rest_is_read_in_pages(
    world: Any, api: Any, people: People
) -> None:
    everybody = [
        record
        for number in range(30)
        for record in world.shared(
            f"guest-{number}" if number % 3 else None, device_id="pc-2",
            first_version=1 + number + sum(other % 3 > 0 for other in range(number)),
        )
    ]  # fmt: skip
    await world.apply(*everybody)
    (_, device) = (await api.get("olga", "/devices")).json()["items"]
    assert (len(device["access"]), device["access_total"], device["invited_total"]) == (20, 30, 10)
    pages = await api.pages("olga", "/devices/pc-2/access", size=7)
    assert [len(page) for page in pages] == [7, 7, 7, 7, 2]
    entries = [entry for page in pages for entry in page]
    assert entries[:20] == device["access"]
    assert {entry["account_id"] for entry in entries if entry["state"] == "active"} == {
        f"guest-{number}" for number in range(30) if number % 3
    }
    assert (await api.get("olga", "/devices/pc-2/access")).headers["Latchkey-Position"] == "pc-2@50"
    (own,) = (await api.get("guest-4", "/devices/pc-2/access")).json()["items"]
    assert own["account_id"] == "guest-4"
    (device,) = (await api.get("guest-4", "/devices")).json()["items"]
    assert (device["access_total"], device["invited_total"]) == (1, 0)


async def test_an_answer_that_one_has_is_not_sent_again(world: Any, api: Any, people: People) -> None:
    paths = ["/devices", "/devices/cam-1", "/devices/cam-1/access", "/invitations"]
    before = {path: (await api.get("sara" if "inv" in path else "olga", path)) for path in paths}
    for path, answer in before.items():
        again = await api.get(
            "sara" if "inv" in path else "olga", path, known=f'"other", {answer.headers["ETag"]}'
        )
        assert (again.status_code, again.content) == (304, b"")
        assert again.headers["ETag"] == answer.headers["ETag"]
    await world.apply(
        world.device("cam-1", services={"ssh": [Permission.CONNECT]}, name="Renamed"),
        *world.shared("tara", first_version=4),
    )
    for path, answer in before.items():
        changed = await api.get("sara" if "inv" in path else "olga", path, known=answer.headers["ETag"])
        assert changed.status_code == 200
        assert changed.headers["ETag"] != answer.headers["ETag"]


async def test_a_tag_is_of_no_use_to_others(api: Any, people: People) -> None:
    tag = (await api.get("olga", "/devices/cam-1")).headers["ETag"]
    assert (await api.get("ravi", "/devices/cam-1", known=tag)).status_code == 200
    assert (await api.get("mallory", "/devices/cam-1", known=tag)).status_code == 404


async def test_answers_are_as_published(world: Any, api: Any, people: People) -> None:
    """What the database writes as JSON is what the published models describe."""
    page = await api.get("olga", "/devices")
    assert (
        json.loads(DevicePage.model_validate_json(page.content).model_dump_json()).keys()
        == page.json().keys()
    )
    for item in page.json()["items"]:
        assert Device.model_validate(item).model_dump().keys() == item.keys()
        for entry in item["access"]:
            assert Access.model_validate(entry).model_dump().keys() == entry.keys()


async def test_a_swap_of_generations_is_seen_at_once_and_refused_to_nobody(
    world: Any, api: Any, people: People
) -> None:
    """Statements that were planned before go on with the tables that are live now."""
    questions = ["/devices", "/devices/cam-1", "/invitations", "/history", "/devices/cam-1/history"]
    before = [(await api.get("olga", path)).text for path in questions]
    async with world.pool.acquire() as connection, connection.transaction():
        await create_tables(connection, "permissions_2", 2)
        await create_indexes(connection, "permissions_2")
    async with world.pool.acquire() as connection, connection.transaction():
        await connection.execute(
            "alter schema permissions rename to permissions_0;"
            " alter schema permissions_2 rename to permissions"
        )
    assert await api.ids("olga") == []
    assert (await api.get("olga", "/devices/cam-1/history")).status_code == 404
    async with world.pool.acquire() as connection, connection.transaction():
        await connection.execute(
            "alter schema permissions rename to permissions_2;"
            " alter schema permissions_0 rename to permissions"
        )
    assert [(await api.get("olga", path)).text for path in questions] == before


async def test_presence_is_told_to_who_may_use_the_device(world: Any, api: Any, people: People) -> None:
    device = (await api.get("olga", "/devices/cam-1")).json()
    assert (device["online"], device["last_seen"]) == (None, None)
    since = datetime(2026, 2, 1, tzinfo=UTC)
    await world.pool.execute("insert into permission_projector.gateway values ('gw', now())")
    await world.pool.execute(
        "insert into permission_projector.presence values ('cam-1', true, $1, 'gw')", since
    )
    for account in ("olga", "ravi"):
        device = (await api.get(account, "/devices/cam-1")).json()
        assert (device["online"], datetime.fromisoformat(device["last_seen"])) == (True, since)
    await world.apply(*world.shared("tara", terms=_window(1, 2), first_version=4))
    device = (await api.get("tara", "/devices/cam-1")).json()
    assert (device["online"], device["last_seen"]) == (None, None)
    silent = datetime(2026, 3, 1, tzinfo=UTC)
    await world.pool.execute("update permission_projector.gateway set heard_at = $1", silent)
    device = (await api.get("olga", "/devices/cam-1")).json()
    assert (device["online"], datetime.fromisoformat(device["last_seen"])) == (None, silent)


@pytest.mark.parametrize(
    ("path", "query", "status", "code"),
    [
        ("/devices", {"size": 1001}, 422, "INVALID_REQUEST"),
        ("/devices", {"size": 0}, 422, "INVALID_REQUEST"),
        ("/devices", {"start": -1}, 422, "INVALID_REQUEST"),
        ("/devices", {"sort": "secret"}, 422, "INVALID_REQUEST"),
        ("/devices", {"name": "a\0b"}, 422, "INVALID_REQUEST"),
        ("/devices", {"id": "a\0b"}, 422, "INVALID_REQUEST"),
        ("/devices", {"wait": "nan"}, 422, "INVALID_REQUEST"),
        ("/devices", {"wait": 11}, 422, "INVALID_REQUEST"),
        ("/devices/a%00b", {}, 404, "DEVICE_NOT_FOUND"),
        ("/devices", {"cursor": "cam-1"}, 400, "INVALID_CURSOR"),
        ("/devices", {"cursor": "é"}, 400, "INVALID_CURSOR"),
        ("/devices", {"cursor": _cursor("name", "x")}, 400, "INVALID_CURSOR"),
        ("/devices", {"cursor": _cursor("-name", "x", "y")}, 400, "INVALID_CURSOR"),
        ("/devices", {"cursor": _cursor("name", "x", "y"), "id": "cam-1"}, 400, "INVALID_CURSOR"),
        ("/devices", {"cursor": _cursor("name", "a\0b", "y")}, 400, "INVALID_CURSOR"),
        ("/devices", {"cursor": _cursor("created", "soon", "y"), "sort": "created"}, 400, "INVALID_CURSOR"),
        ("/devices", {"shared": "both"}, 422, "INVALID_REQUEST"),
        ("/devices", {"shared_with_contact": "ann"}, 422, "INVALID_REQUEST"),
        ("/devices/cam-1/access", {"cursor": _cursor("x")}, 400, "INVALID_CURSOR"),
        ("/devices/cam-1/access", {"at": "yesterday"}, 422, "INVALID_REQUEST"),
        ("/devices/cam-1/history", {"cursor": _cursor("x")}, 400, "INVALID_CURSOR"),
        ("/devices/cam-1/connections", {"cursor": _cursor(1, 2)}, 400, "INVALID_CURSOR"),
        ("/history", {"cursor": _cursor(7)}, 400, "INVALID_CURSOR"),
        ("/connections", {"size": 201}, 422, "INVALID_REQUEST"),
        ("/devices", {"after": "cam-1"}, 400, "INVALID_POSITION"),
        ("/devices", {"after": "cam-1@-1"}, 400, "INVALID_POSITION"),
        ("/devices", {"after": "cam-1@9999999999999999999"}, 400, "INVALID_POSITION"),
        ("/devices", {"after": ",".join(["cam-1@1"] * 101)}, 400, "INVALID_POSITION"),
        ("/nothing", {}, 404, "NOT_FOUND"),
    ],
)
async def test_bad_input_gets_a_coded_error(
    api: Any, path: str, query: dict[str, Any], status: int, code: str
) -> None:
    answer = await api.get("olga", path, **query)
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)


async def test_nobody_is_served_without_a_token_for_this_service(api: Any, internal_tokens: Any) -> None:
    for headers in ({}, {"Authorization": f"Bearer {internal_tokens.token('share-command', 'olga')}"}):
        answer = await api.client.get("/v1/devices", headers=headers)
        assert (answer.status_code, answer.json()["error"]["code"]) == (401, "UNAUTHENTICATED")


async def test_a_reader_waits_until_its_own_write_is_there(world: Any, api: Any, people: People) -> None:
    """Read your own writes: the answer comes after the event, never from before it."""
    asking = asyncio.create_task(api.get("olga", "/devices/pc-2", position="pc-2@2", wait=10))
    first, second = world.shared("ravi", device_id="pc-2")
    await world.apply(first)
    assert not asking.done()
    await world.apply(second)
    answer = await asking
    assert answer.headers["Latchkey-Position"] == "pc-2@2"
    assert [item["state"] for item in answer.json()["access"]] == ["active"]


async def test_a_position_that_does_not_come_is_answered_with_how_far_it_is(api: Any, people: People) -> None:
    answer = await api.get("olga", "/devices", position="cam-1@3, cam-1@9, pc-2@0", wait=0.1)
    assert answer.status_code == 503
    assert answer.json()["error"]["code"] == "NOT_YET_VISIBLE"
    assert answer.json()["error"]["known"] == "cam-1@3"
    assert answer.headers["Retry-After"] == "1"


async def test_the_reader_can_write_nothing(world: Any) -> None:
    pool = await pg.open_pool(
        world.database.dsn("permission_projector"),
        application="t",
        search_path=LIVE,
        settings=SERVE_SESSION,
    )
    async with pool:
        with pytest.raises(asyncpg.ReadOnlySQLTransactionError):
            await pool.execute("delete from share")
