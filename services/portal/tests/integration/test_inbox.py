"""The inbox in GraphQL, and the unsubscribe links of mails."""

from collections.abc import Callable
from typing import Any

import httpx
import pytest

ENTRY: dict[str, Any] = {
    "notice_id": "0199a000-0000-7000-8000-0000000000b1",
    "kind": "invitation",
    "at": "2026-02-04T00:00:00Z",
    "happened_at": "2026-02-04T00:00:00Z",
    "read": False,
    "later_until": None,
    "operation": None,
    "share_id": "0199a000-0000-7000-8000-000000000003",
    "device_id": "cam-9",
    "device_name": "Back yard",
    "sharer": {"account_id": "dan", "name": "Dan"},
    "recipient": None,
    "state": "requested",
    "invitation_version": 4,
    "open": True,
    "expires_at": None,
    "terms": {"scope": {"kind": "all", "permissions": "all"}, "scripting": False},
}
Graphql = Callable[..., Any]


async def test_the_inbox_is_listed_and_marked(
    graphql: Graphql, replies: dict[str, Any], asked: list[dict[str, Any]]
) -> None:
    replies["GET notifier/v1/inbox"] = (200, {"items": [ENTRY], "next": "n2", "unread": 1})
    replies["POST notifier/v1/inbox/marks"] = (204, None)
    answer = await graphql(
        "{ login { inbox(size: 1, unread: true) "
        "{ unread next items { id kind open deviceName sharerName invitationVersion } } } }"
    )
    assert answer.json()["data"]["login"]["inbox"] == {
        "unread": 1,
        "next": "n2",
        "items": [
            {
                "id": ENTRY["notice_id"],
                "kind": "invitation",
                "open": True,
                "deviceName": "Back yard",
                "sharerName": "Dan",
                "invitationVersion": 4,
            }
        ],
    }
    call = next(item for item in asked if item["call"] == "GET notifier/v1/inbox")
    assert (call["account"], dict(call["params"])["unread"]) == ("ann", "true")
    answer = await graphql(
        'mutation { markInbox(ids: ["0199a000-0000-7000-8000-0000000000b1"], mark: READ) }'
    )
    assert answer.json() == {"data": {"markInbox": True}}
    assert asked[-1]["body"] == {"notice_ids": [ENTRY["notice_id"]], "mark": "read", "until": None}


async def test_what_the_notifier_refuses_is_told_with_its_code(
    graphql: Graphql, replies: dict[str, Any]
) -> None:
    refusal = {"error": {"code": "INVALID_REQUEST", "message": "time_zone: must be an IANA name"}}
    replies["PUT notifier/v1/preferences"] = (422, refusal)
    answer = (await graphql('mutation { setNoticeSettings(timeZone: "Mars/Base") }')).json()
    assert answer["data"] == {"setNoticeSettings": False}
    assert answer["errors"][0]["extensions"]["code"] == "INVALID_REQUEST"


async def test_settings_and_subscriptions_pass_through(
    graphql: Graphql, replies: dict[str, Any], asked: list[dict[str, Any]]
) -> None:
    made = "0199a000-0000-7000-8000-0000000000c1"
    replies["GET notifier/v1/preferences"] = (
        200,
        {
            "language": "de",
            "time_zone": "Europe/Berlin",
            "quiet_hours": {"from": "22:00:00", "until": "07:00:00"},
            "wanted": {"revoked": {"email": False}},
        },
    )
    replies["POST notifier/v1/push-subscriptions"] = (201, {"subscription_id": made})
    replies[f"DELETE notifier/v1/push-subscriptions/{made}"] = (204, None)
    answer = await graphql(
        "{ login { noticeSettings { language quietFrom preferences { kind channel wanted } } } }"
    )
    assert answer.json()["data"]["login"]["noticeSettings"] == {
        "language": "de",
        "quietFrom": "22:00:00",
        "preferences": [{"kind": "revoked", "channel": "email", "wanted": False}],
    }
    answer = await graphql(
        'mutation { addPushSubscription(endpoint: "https://p/x", p256dh: "k", auth: "a") }'
    )
    assert answer.json()["data"] == {"addPushSubscription": made}
    assert asked[-1]["body"] == {
        "endpoint": "https://p/x", "fcm_token": None, "keys": {"p256dh": "k", "auth": "a"}
    }  # fmt: skip
    answer = await graphql(f'mutation {{ removePushSubscription(id: "{made}") }}')
    assert answer.json()["data"] == {"removePushSubscription": True}


async def test_looking_at_an_unsubscribe_link_changes_nothing_and_one_post_stops_the_mails(
    client: httpx.AsyncClient, replies: dict[str, Any], asked: list[dict[str, Any]]
) -> None:
    replies["POST notifier/v1/unsubscriptions/look"] = (200, {"kinds": ["invitation"]})
    replies["POST notifier/v1/unsubscriptions"] = (200, {"kinds": ["invitation"]})
    for method in ("GET", "HEAD") * 10:
        answer = await client.request(method, "/unsubscribe/tok.en")
        assert answer.status_code == 200
    assert "invitations" in (await client.get("/unsubscribe/tok.en")).text
    assert {item["call"] for item in asked} == {"POST notifier/v1/unsubscriptions/look"}
    answer = await client.post("/unsubscribe/tok.en", data={"List-Unsubscribe": "One-Click"})
    assert answer.status_code == 200
    assert "No more such mails" in answer.text
    assert (asked[-1]["call"], asked[-1]["body"]) == ("POST notifier/v1/unsubscriptions", {"token": "tok.en"})


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_an_unsubscribe_link_that_was_altered_says_so(
    client: httpx.AsyncClient, replies: dict[str, Any], method: str
) -> None:
    refusal = (404, {"error": {"code": "INVALID_LINK", "message": "This link is not valid."}})
    replies["POST notifier/v1/unsubscriptions/look"] = replies["POST notifier/v1/unsubscriptions"] = refusal
    answer = await client.request(method, "/unsubscribe/x")
    assert answer.status_code == 404
    assert "This link is not valid." in answer.text
