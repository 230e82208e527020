"""Events, sessions and access in the past, as clients ask for them."""

from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import pytest

Send = Callable[..., Awaitable[httpx.Response]]
Asked = list[dict[str, Any]]
Replies = dict[str, tuple[int, Any]]

SHARE_EVENT = "0199a000-0000-7000-8000-0000000000e1"
OWNER = {"account_id": "ann", "name": "Ann", "email": "ann@example.com"}
TERMS = {"scope": {"kind": "some", "services": {"cam-1:ssh": ["connect"]}}, "scripting": True}
COMMON: dict[str, Any] = {
    "device_id": "cam-1",
    "device_name": "Front door",
    "owner": OWNER,
    "account": {"account_id": "bob", "name": "Bob"},
    "email": "bob@example.com",
    "phone": None,
    "services": [{"service_id": "cam-1:ssh", "name": "Shell"}],
}


def share(kind: str, state: str, reason: str | None = None, **others: Any) -> dict[str, Any]:
    """As the read API tells an event of a share."""
    change = {
        "share_id": "0199a000-0000-7000-8000-000000000001", "version": 7, "kind": kind, "state": state,
        "terms": TERMS, "reason": reason,
    }  # fmt: skip
    event = {
        "event_id": "0199a000-0000-7000-8000-0000000000e1",
        "type": "share",
        "at": "2026-02-02T00:00:00Z",
    }
    return {**COMMON, **event, "share": change, "connection": None, **others}


CONNECTION: dict[str, Any] = {
    **COMMON,
    "event_id": "0199a000-0000-7000-8000-0000000000c1",
    "type": "connection",
    "at": "2026-02-03T00:00:00Z",
    "share": None,
    "connection": {
        "connection_id": "0199a000-0000-7000-8000-0000000000c1",
        "share_id": None,
        "permission": "connect",
        "opened_at": "2026-02-03T00:00:00Z",
        "ended_at": "2026-02-03T00:01:30Z",
        "outcome": "closed",
        "in_doubt": False,
        "reason": None,
        "bytes_to_device": 5_000_000_000,
        "bytes_from_device": 20,
    },
}
PAGE: dict[str, Any] = {
    "items": [CONNECTION, share("ShareAccepted", "active")],
    "total": 12,
    "hasMore": True,
    "next": "abc",
    "last": "abc",
}

WHOLE = """
query ($from: Int, $size: Int, $after: ID, $minDate: DateTime, $maxDate: DateTime, $types: [EventType!]) {
  login { events(
    from: $from, size: $size, after: $after, minDate: $minDate, maxDate: $maxDate, types: $types
  ) {
    total hasMore last
    items {
      id type state timestamp action actor { email } owner { email } users { id email } devices { id name }
      services { id name } target { id name device { id name } } scripting shared
      ... on DeviceShareEvent { scripting shared shareId }
      ... on DeviceConnectEvent { session txBytes rxBytes lifetime }
    }
  } }
}
"""
NAMES = ("from", "size", "after", "minDate", "maxDate", "types")


async def test_events_are_told_as_clients_know_them(graphql: Send, replies: Replies) -> None:
    replies["GET read-api/v1/events"] = (200, PAGE)
    answer = (await graphql(WHOLE, dict.fromkeys(NAMES))).json()
    assert "errors" not in answer
    events = answer["data"]["login"]["events"]
    assert (events["total"], events["hasMore"], events["last"]) == (12, True, "abc")
    used, accepted = events["items"]
    device = {"id": "cam-1", "name": "Front door"}
    service = {"id": "cam-1:ssh", "name": "Shell"}
    assert accepted == {
        "id": "0199a000-0000-7000-8000-0000000000e1", "type": "DEVICE_SHARE", "state": "active",
        "timestamp": "2026-02-02T00:00:00+00:00", "action": "update", "actor": {"email": "bob@example.com"},
        "owner": {"email": "ann@example.com"}, "users": [{"id": "bob", "email": "bob@example.com"}],
        "devices": [device], "services": [service], "target": [{**service, "device": device}],
        "scripting": True, "shared": True, "shareId": "0199a000-0000-7000-8000-000000000001",
    }  # fmt: skip
    assert (used["type"], used["state"], used["action"]) == ("DEVICE_CONNECT", "connected", "connect")
    assert (used["actor"], used["lifetime"]) == ({"email": "bob@example.com"}, 90.0)
    assert (used["txBytes"], used["rxBytes"]) == (5_000_000_000, 20)


@pytest.mark.parametrize(
    ("kind", "state", "reason", "action", "shared", "actor"),
    [
        ("ShareRequested", "requested", None, "add", True, "ann@example.com"),
        ("ShareChanged", "active", "by_owner", "update", True, "ann@example.com"),
        ("ShareChanged", "active", "service_removed", "update", True, None),
        ("InvitationResent", "requested", None, "update", True, "ann@example.com"),
        ("ShareRejected", "rejected", None, "remove", False, "bob@example.com"),
        ("ShareLeft", "left", None, "remove", False, "bob@example.com"),
        ("ShareRevoked", "revoked", "by_owner", "remove", False, "ann@example.com"),
        ("ShareRevoked", "revoked", "device_removed", "remove", False, None),
        ("ShareExpired", "expired", None, "remove", False, None),
    ],
)
async def test_each_event_of_a_share_has_its_action_and_its_actor(  # noqa: PLR0917 - the columns of its table
    graphql: Send,
    replies: Replies,
    kind: str,
    state: str,
    reason: str | None,
    action: str,
    shared: bool,
    actor: str | None,
) -> None:
    replies["GET read-api/v1/events"] = (200, {**PAGE, "items": [share(kind, state, reason)]})
    answer = await graphql("{ login { events { items { action shared kind reason actor { email } } } } }")
    (event,) = answer.json()["data"]["login"]["events"]["items"]
    assert event == {
        "action": action, "shared": shared, "kind": kind, "reason": reason,
        "actor": actor and {"email": actor},
    }  # fmt: skip


async def test_whom_it_was_shared_with_is_himself_where_he_reads(graphql: Send, replies: Replies) -> None:
    """The read API tells a recipient no address, not even his own; an invitation had no account yet."""
    theirs: dict[str, Any] = {"owner": {"account_id": "dan", "name": "Dan"}, "account": None, "email": None}
    replies["GET read-api/v1/events"] = (
        200, {**PAGE, "items": [share("ShareRequested", "requested", None, **theirs)]}
    )  # fmt: skip
    answer = await graphql("{ login { events { items { users { id email } actor { id email } } } } }")
    assert answer.json()["data"]["login"]["events"]["items"] == [
        {"users": [{"id": "ann", "email": "ann@example.com"}], "actor": {"id": "dan", "email": None}}
    ]


async def test_a_share_of_the_whole_device_is_about_the_device(graphql: Send, replies: Replies) -> None:
    whole = share("ShareRequested", "requested", services=[])
    replies["GET read-api/v1/events"] = (200, {**PAGE, "items": [whole]})
    answer = await graphql(
        "{ login { events { items { services { id } target { id name device { id } } } } } }"
    )
    assert answer.json()["data"]["login"]["events"]["items"] == [
        {"services": [], "target": [{"id": "cam-1", "name": "Front door", "device": {"id": "cam-1"}}]}
    ]


@pytest.mark.parametrize(
    ("arguments", "params"),
    [
        ("", [("size", "100")]),
        ("(size: 5, from: 10)", [("size", "5"), ("from", "10")]),
        ('(after: "abc")', [("size", "100"), ("cursor", "abc")]),
        (
            '(minDate: "2026-02-01T00:00:00Z", maxDate: "2026-02-02T00:00:00+02:00")',
            [("size", "100"), ("since", "2026-02-01T00:00:00+00:00"), ("until", "2026-02-02T00:00:00+02:00")],
        ),
        ("(types: [DEVICE_SHARE, AUTH_LOGIN])", [("size", "100"), ("type", "share")]),
        ("(types: DEVICE_CONNECT)", [("size", "100"), ("type", "connection")]),
        ("(types: [])", [("size", "100")]),
    ],
)
async def test_arguments_reach_the_read_api(
    graphql: Send, replies: Replies, asked: Asked, arguments: str, params: list[tuple[str, str]]
) -> None:
    replies["GET read-api/v1/events"] = (200, PAGE)
    answer = await graphql(f"{{ login {{ events{arguments} {{ hasMore }} }} }}")
    assert answer.json() == {"data": {"login": {"events": {"hasMore": True}}}}
    (call,) = [item for item in asked if item["call"] == "GET read-api/v1/events"]
    assert call["params"] == params


@pytest.mark.parametrize(
    "document",
    [
        "{ login { events { total } } }",
        "{ login { events { ...Page } } } fragment Page on EventList { total }",
        "{ login { events { ... on EventList { total } } } }",
    ],
)
async def test_the_total_is_counted_for_those_who_ask_for_it(
    graphql: Send, replies: Replies, asked: Asked, document: str
) -> None:
    replies["GET read-api/v1/events"] = (200, PAGE)
    assert (await graphql(document)).json()["data"]["login"]["events"] == {"total": 12}
    (call,) = [item for item in asked if item["call"] == "GET read-api/v1/events"]
    assert ("total", "true") in call["params"]


async def test_of_what_is_not_kept_there_is_nothing(graphql: Send, asked: Asked) -> None:
    answer = await graphql("{ login { events(types: [AUTH_LOGIN]) { total items { id } hasMore last } } }")
    nothing: dict[str, Any] = {"total": 0, "items": [], "hasMore": False, "last": None}
    assert answer.json() == {"data": {"login": {"events": nothing}}}
    assert not [item for item in asked if "events" in item["call"]]


@pytest.mark.parametrize("arguments", ["size: 1001", "size: -1", "from: -1", "from: 1000001"])
async def test_a_page_that_cannot_be_is_refused(graphql: Send, arguments: str) -> None:
    answer = await graphql(f"{{ login {{ events({arguments}) {{ total }} }} }}")
    (error,) = answer.json()["errors"]
    assert error["extensions"] == {"code": "INVALID_REQUEST"}


async def test_events_and_sessions_of_many_devices_are_asked_for_at_once(
    graphql: Send, replies: Replies, asked: Asked
) -> None:
    _, page = replies["GET read-api/v1/devices"]
    devices = [{**page["items"][0], "device_id": f"cam-{number}"} for number in (1, 2, 3)]
    replies["GET read-api/v1/devices"] = (200, {**page, "items": devices, "total": 3})
    replies["GET read-api/v1/device-events"] = (200, {"devices": [{**PAGE, "device_id": "cam-1"}]})
    opened = {
        "connection_id": "0199a000-0000-7000-8000-0000000000c2",
        "device_id": "cam-2",
        "service_id": "cam-2:ssh",
        "service_name": "Shell",
        "account": {"account_id": "bob", "name": "Bob"},
        "email": "bob@example.com",
        "opened_at": "2026-02-03T00:00:00Z",
    }
    replies["GET read-api/v1/connections"] = (200, {"items": [opened], "next": None})
    document = """{ login { devices { items {
      id events(size: 1) { total hasMore items { type } }
      sessions { id timestamp state user { email } target { id name device { id } } }
    } } sessions { id } } }"""
    answer = (await graphql(document)).json()
    assert "errors" not in answer
    first, second, third = answer["data"]["login"]["devices"]["items"]
    assert first["events"] == {"total": 12, "hasMore": True, "items": [{"type": "DEVICE_CONNECT"}]}
    assert third["events"] == {"total": 0, "hasMore": False, "items": []}
    assert (first["sessions"], third["sessions"]) == ([], [])
    assert second["sessions"] == [
        {
            "id": opened["connection_id"], "timestamp": "2026-02-03T00:00:00+00:00", "state": "connected",
            "user": {"email": "bob@example.com"},
            "target": {"id": "cam-2:ssh", "name": "Shell", "device": {"id": "cam-2"}},
        }
    ]  # fmt: skip
    assert answer["data"]["login"]["sessions"] == [{"id": opened["connection_id"]}]
    (events,) = [item for item in asked if item["call"] == "GET read-api/v1/device-events"]
    assert [value for name, value in events["params"] if name == "id"] == ["cam-1", "cam-2", "cam-3"]
    of_devices, _ = [item for item in asked if item["call"] == "GET read-api/v1/connections"]
    assert ("open", "true") in of_devices["params"]


async def test_who_had_access_at_a_time_is_told_to_the_owner_alone(
    graphql: Send, replies: Replies, asked: Asked
) -> None:
    owner = {"role": "owner", "account": {"account_id": "ann", "name": "Ann"}}
    guest = {
        "role": "recipient",
        "account": {"account_id": "bob", "name": "Bob"},
        "email": "bob@example.com",
        "share_id": "0199a000-0000-7000-8000-000000000001",
        "by": {
            "event_id": "0199a000-0000-7000-8000-0000000000e1",
            "kind": "ShareAccepted",
            "version": 2,
            "at": "2026-02-02T00:00:00Z",
        },
        "terms": TERMS,
    }
    replies["GET read-api/v1/devices/cam-1/access"] = (200, {"items": [owner, guest]})
    document = """query ($at: DateTime!) { login { device(id: "cam-1") { accessAt(at: $at) {
      role user { id email name } by { kind version } terms { scripting services { serviceId } }
    } } } }"""
    answer = (await graphql(document, {"at": "2026-02-03T00:00:00Z"})).json()
    assert answer["data"]["login"]["device"][0]["accessAt"] == [
        {"role": "owner", "user": {"id": "ann", "email": None, "name": "Ann"}, "by": None, "terms": None},
        {
            "role": "recipient", "user": {"id": "bob", "email": "bob@example.com", "name": "Bob"},
            "by": {"kind": "ShareAccepted", "version": 2},
            "terms": {"scripting": True, "services": [{"serviceId": "cam-1:ssh"}]},
        },
    ]  # fmt: skip
    assert asked[-1]["params"] == [("at", "2026-02-03T00:00:00+00:00")]
    _, device = replies["GET read-api/v1/devices/cam-1"]
    replies["GET read-api/v1/devices/cam-1"] = (200, {**device, "owned": False, "share_state": "in"})
    answer = (await graphql(document, {"at": "2026-02-03T00:00:00Z"})).json()
    assert answer["data"]["login"]["device"] == [{"accessAt": None}]
