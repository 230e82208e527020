"""Events of shares and of connections in one list: in order, by time, kind and page, to whom they concern."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from contracts.base import new_id
from contracts.events import RevokeReason, ShareAccepted, ShareChanged, ShareRequested, ShareRevoked
from contracts.permissions import AllServices, Permission, SomeServices, Terms

START = datetime(2026, 1, 1, tzinfo=UTC)
ALL = Terms(scope=AllServices())
SSH_ONLY = Terms(scope=SomeServices(services={"ssh": "all"}), scripting=True)


def second(number: float) -> str:
    """A time as a client writes it; `World` gives a device's event of version n the time of second n."""
    return (START + timedelta(seconds=number)).isoformat()


async def connected(world: Any, account: str, at: float, share_id: UUID | None, device: str = "cam-1") -> str:
    connection_id = new_id()
    await world.pool.execute(
        "insert into permission_projector.connection (connection_id, device_id, service_id, account_id,"
        " share_id, permission, gateway_id, opened_at, outcome)"
        " values ($1, $2, 'ssh', $3, $4, 'connect', 'gw', $5, 'open')",
        connection_id, device, account, share_id, START + timedelta(seconds=at),
    )  # fmt: skip
    return str(connection_id)


@pytest.fixture
async def told(world: Any) -> dict[str, str]:
    """olga's cam-1: she asks ravi (1), who accepts (2), asks tara (3), narrows ravi's to ssh (4), takes
    tara's back (5). ravi connects (2.5), olga herself (4.5); mallory to a device of her own (6)."""
    ravi: dict[str, Any] = {
        "share_id": new_id(), "device_id": "cam-1", "contact_id": new_id(), "owner_account_id": "olga"
    }  # fmt: skip
    tara: dict[str, Any] = {**ravi, "share_id": new_id(), "contact_id": new_id()}
    await world.apply(
        world.device("cam-1", services={"ssh": [Permission.CONNECT], "web": [Permission.LIVE_VIEW]}),
        world.device("mal-1", owner="mallory", services={"ssh": [Permission.CONNECT]}),
        *(world.account(name) for name in ("olga", "ravi", "tara", "mallory")),
        world.contact(ravi["contact_id"], "mailto:ravi@example.com"),
        world.contact(tara["contact_id"], "tel:+4915112345678"),
        world.event(ShareRequested(**ravi, terms=ALL), 1),
        world.event(ShareAccepted(**ravi, account_id="ravi"), 2),
        world.event(ShareRequested(**tara, terms=ALL), 3),
        world.event(ShareChanged(**ravi, terms=SSH_ONLY, state="active"), 4),
        world.event(ShareRevoked(**tara, reason=RevokeReason.BY_OWNER), 5),
    )
    return {
        "by ravi": await connected(world, "ravi", 2.5, ravi["share_id"]),
        "by olga": await connected(world, "olga", 4.5, None),
        "by mallory": await connected(world, "mallory", 6, None, "mal-1"),
    }


def names(items: list[Any]) -> list[str]:
    """Events in short: their kind, or who connected."""
    return [
        item["share"]["kind"] if item["type"] == "share" else f"by {item['account']['account_id']}"
        for item in items
    ]


async def listed(api: Any, account: str, **query: Any) -> list[str]:
    answer = await api.get(account, "/events", **query)
    assert answer.status_code == 200, answer.text
    return names(answer.json()["items"])


async def of_device(api: Any, account: str, device: str, **query: Any) -> list[str]:
    answer = await api.get(account, "/device-events", id=device, **query)
    assert answer.status_code == 200, answer.text
    return [name for page in answer.json()["devices"] for name in names(page["items"])]


EVERY = [
    "ShareRevoked", "by olga", "ShareChanged", "ShareRequested", "by ravi", "ShareAccepted", "ShareRequested"
]  # fmt: skip
TO_RAVI = ["ShareChanged", "by ravi", "ShareAccepted", "ShareRequested"]


async def test_each_is_told_of_what_concerns_him_newest_first(api: Any, told: Any) -> None:
    assert await listed(api, "olga") == await of_device(api, "olga", "cam-1") == EVERY
    assert await listed(api, "ravi") == await of_device(api, "ravi", "cam-1") == TO_RAVI
    assert await listed(api, "tara") == await of_device(api, "tara", "cam-1") == []
    assert await listed(api, "mallory") == ["by mallory"]
    assert await of_device(api, "mallory", "cam-1") == await of_device(api, "mallory", "no-such") == []


async def test_what_is_told_of_an_event(api: Any, told: dict[str, str]) -> None:
    revoked, _, changed, asked, used, accepted, first = (await api.get("olga", "/events")).json()["items"]
    assert (asked["phone"], asked["email"], asked["account"]) == ("+4915112345678", None, None)
    assert (revoked["share"]["state"], revoked["share"]["reason"]) == ("revoked", "by_owner")
    assert (first["email"], first["account"], first["services"]) == ("ravi@example.com", None, [])
    assert accepted["account"] == {"account_id": "ravi", "name": "Ravi"}
    assert accepted["share"]["terms"]["scope"]["kind"] == "all", "those in force, though it brought none"
    assert changed["share"]["terms"]["scripting"] is True
    assert changed["services"] == [{"service_id": "ssh", "name": "SSH"}]
    assert (used["event_id"], used["email"]) == (told["by ravi"], "ravi@example.com")
    assert (used["connection"]["outcome"], used["connection"]["permission"]) == ("open", "connect")
    assert used["services"] == [{"service_id": "ssh", "name": "SSH"}]
    for item in (revoked, used):
        assert (item["device_id"], item["device_name"]) == ("cam-1", "Camera")
        assert item["owner"] == {"account_id": "olga", "name": "Olga", "email": "olga@example.com"}


async def test_a_recipient_learns_no_address_and_no_name_of_what_he_lost(
    world: Any, api: Any, told: dict[str, str]
) -> None:
    narrowed, *_ = items = (await api.get("ravi", "/events")).json()["items"]
    assert {item["email"] for item in items} == {None}
    assert (narrowed["device_name"], narrowed["owner"]["email"]) == ("Camera", "olga@example.com")
    ended = ShareRevoked(
        share_id=narrowed["share"]["share_id"], device_id="cam-1", contact_id=new_id(),
        owner_account_id="olga", reason=RevokeReason.BY_OWNER, account_id="ravi",
    )  # fmt: skip
    await world.apply(world.event(ended, 6))
    after = (await api.get("ravi", "/events")).json()["items"]
    assert names(after) == ["ShareRevoked", *TO_RAVI]
    for item in after:
        assert item["device_name"] is None
        assert item["owner"] is None or item["owner"]["email"] is None
        assert {service["name"] for service in item["services"]} <= {None}


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ({"type": "share"}, [name for name in EVERY if not name.startswith("by")]),
        ({"type": "connection"}, ["by olga", "by ravi"]),
        ({"type": ["share", "connection"]}, EVERY),
        ({"since": second(2.5), "until": second(4)}, EVERY[2:5]),
        ({"since": second(5.1)}, []),
        ({"until": second(0)}, []),
        ({"since": second(2), "type": "connection", "size": 1}, ["by olga"]),
        ({"start": 2, "size": 3}, EVERY[2:5]),
        ({"start": 7}, []),
    ],
)
async def test_kind_time_and_offset(api: Any, told: Any, query: dict[str, Any], expected: list[str]) -> None:
    assert await listed(api, "olga", **query) == expected
    assert await of_device(api, "olga", "cam-1", **query) == expected


@pytest.mark.parametrize("size", [1, 2, 3, 100])
async def test_pages_follow_one_another_and_the_last_place_goes_on(api: Any, told: Any, size: int) -> None:
    pages = await api.pages("olga", "/events", size=size)
    assert [name for page in pages for name in names(page)] == EVERY
    assert all(len(page) == size for page in pages[:-1])
    first = (await api.get("olga", "/events", size=size)).json()
    assert first["hasMore"] == (first["next"] is not None) == (size < len(EVERY))
    rest = await listed(api, "olga", cursor=first["last"])
    assert rest == EVERY[size:]
    assert await of_device(api, "olga", "cam-1", cursor=first["last"]) == EVERY[size:]


async def test_the_total_is_counted_when_asked_and_is_of_all_pages(api: Any, told: Any) -> None:
    assert (await api.get("olga", "/events")).json()["total"] is None
    for account, total in (("olga", 7), ("ravi", 4), ("tara", 0), ("mallory", 1)):
        answer = (await api.get(account, "/events", total=True, size=1)).json()
        assert answer["total"] == total
    counted: dict[str, Any] = {
        "total": True,
        "size": 1,
        "since": second(2.5),
        "until": second(4),
        "type": "share",
    }
    assert (await api.get("olga", "/events", **counted)).json()["total"] == 2
    (page,) = (await api.get("ravi", "/device-events", id="cam-1", total=True, size=1)).json()["devices"]
    assert (page["total"], len(page["items"]), page["hasMore"]) == (4, 1, True)


async def test_many_devices_are_asked_for_at_once(world: Any, api: Any, told: Any) -> None:
    await world.apply(world.device("pc-2"), *world.shared("ravi", device_id="pc-2"))
    answer = await api.get("olga", "/device-events", id=["pc-2", "cam-1", "mal-1", "none", "cam-1"], size=2)
    pages = {page["device_id"]: names(page["items"]) for page in answer.json()["devices"]}
    assert pages == {"cam-1": EVERY[:2], "pc-2": ["ShareAccepted", "ShareRequested"]}


@pytest.mark.parametrize(
    "query", [{"cursor": "x"}, {"cursor": "WzFd"}, {"type": "login"}, {"since": "soon"}, {"size": 0}]
)
async def test_what_cannot_be_asked_is_refused(api: Any, told: Any, query: dict[str, Any]) -> None:
    assert (await api.get("olga", "/events", **query)).status_code in {400, 422}


async def test_what_has_not_changed_is_not_sent_again(world: Any, api: Any, told: Any) -> None:
    for path in (
        "/me", "/events", "/device-events?id=cam-1", "/history", "/connections", "/devices/cam-1/history",
        "/devices/cam-1/connections", f"/devices/cam-1/access?at={second(2).replace('+00:00', 'Z')}",
    ):  # fmt: skip
        answer = await api.get("olga", path)
        again = await api.get("olga", path, known=answer.headers["ETag"])
        assert (again.status_code, again.content) == (304, b""), path
    before = (await api.get("olga", "/events")).headers["ETag"]
    await connected(world, "olga", 9, None)
    assert (await api.get("olga", "/events", known=before)).status_code == 200


async def test_what_is_open_is_found_by_device(api: Any, told: dict[str, str]) -> None:
    async def open_to(account: str, *devices: str) -> list[str]:
        answer = await api.get(account, "/connections", open=True, device=list(devices))
        return [item["connection_id"] for item in answer.json()["items"]]

    assert await open_to("olga", "cam-1", "mal-1") == [told["by olga"], told["by ravi"]]
    assert await open_to("olga", "mal-1") == []
    assert await open_to("ravi", "cam-1") == [told["by ravi"]]
    (item, *_) = (await api.get("olga", "/connections", open=True)).json()["items"][1:]
    assert (item["service_name"], item["email"], item["phone"]) == ("SSH", "ravi@example.com", None)


async def test_devices_are_found_by_their_services(world: Any, api: Any, told: Any) -> None:
    async def found(account: str, *services: str) -> list[str]:
        return await api.ids(account, service=list(services))

    await world.apply(world.device("pc-2", services={"pc-2-ssh": [Permission.CONNECT]}))
    assert await found("olga", "web") == ["cam-1"]
    assert await found("olga", "pc-2-ssh", "ssh", "none") == ["cam-1", "pc-2"]
    assert await found("ravi", "ssh") == ["cam-1"]
    assert await found("ravi", "web") == [], "that his device has a service which is not his is not told"
    assert await found("tara", "ssh") == []
    both = await api.get("olga", "/devices", service="ssh", id="pc-2")
    assert both.json()["items"] == []
    assert (await api.get("olga", "/devices", service="ssh", cursor="x")).json()["error"]["code"] == (
        "INVALID_CURSOR"
    )


async def test_devices_are_found_by_whether_they_are_connected(world: Any, api: Any, told: Any) -> None:
    await world.apply(world.device("pc-2"), world.device("pc-3"))
    await world.pool.execute(
        "insert into permission_projector.presence (device_id, online, since, gateway_id)"
        " values ('cam-1', true, now(), 'gw'), ('pc-2', false, now(), 'gw')"
    )
    await world.pool.execute(
        "insert into permission_projector.gateway (gateway_id, heard_at) values ('gw', now())"
    )
    for account, presence, expected in (
        ("olga", "online", ["cam-1"]), ("olga", "offline", ["pc-2"]), ("olga", "unknown", ["pc-3"]),
        ("ravi", "online", ["cam-1"]), ("ravi", "unknown", []), ("mallory", "unknown", ["mal-1"]),
    ):  # fmt: skip
        answer = (await api.get(account, "/devices", presence=presence)).json()
        assert [item["device_id"] for item in answer["items"]] == expected
        assert answer["total"] == len(expected)
        online = {"online": True, "offline": False, "unknown": None}[presence]
        assert {item["online"] for item in answer["items"]} <= {online}
