"""What the schema has beyond remote.it's: terms of one's own, bulk, editing, explanations, contacts."""

from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import pytest

Send = Callable[..., Awaitable[httpx.Response]]
Asked = list[dict[str, Any]]
Replies = dict[str, tuple[int, Any]]

SHARE_ID = "0199a000-0000-7000-8000-000000000003"
TERMS = {"scope": {"kind": "all", "permissions": "all"}, "scripting": False}
ITEM = {"device_id": "cam-1", "recipient": "bob@x.test", "outcome": "requested", "share_id": SHARE_ID}


def bodies(asked: Asked, call: str) -> list[Any]:
    return [item["body"] for item in asked if item["call"] == call]


async def test_share_with_terms_of_its_own(graphql: Send, asked: Asked) -> None:
    answer = await graphql(
        'mutation { share(deviceId: "cam-1", email: ["+49 151 12345678", "contact:' + SHARE_ID + '"],'
        ' services: [{serviceId: "a", permissions: [LIVE_VIEW, PTZ]}, {serviceId: "b", action: REMOVE},'
        ' {serviceId: "c"}], permissions: [PLAYBACK], startsAt: "2027-01-01T08:00:00+01:00",'
        ' endsAt: "2027-02-01T00:00:00Z", expiresAt: "2027-01-15T00:00:00Z", message: "The gate.") }'
    )
    assert answer.content == b'{"data":{"share":true}}'
    (body,) = bodies(asked, "POST share-command/v1/commands/RequestShare")
    assert body["recipients"] == ["+49 151 12345678", f"contact:{SHARE_ID}"]
    assert [(item["action"], item["permissions"]) for item in body["services"]] == [
        ("ADD", ["live_view", "ptz"]), ("REMOVE", "all"), ("ADD", ["playback"]),
    ]  # fmt: skip
    assert body["permissions"] == ["playback"]
    assert body["starts_at"] == "2027-01-01T07:00:00Z"
    assert (body["ends_at"], body["expires_at"]) == ("2027-02-01T00:00:00Z", "2027-01-15T00:00:00Z")
    assert body["message"] == "The gate."


@pytest.mark.parametrize("action", ["REMOVE", "LEAVE"])
async def test_terms_belong_to_add(graphql: Send, asked: Asked, action: str) -> None:
    answer = await graphql(
        f'mutation {{ share(deviceId: "cam-1", email: "bob@x.test", action: {action},'
        ' endsAt: "2027-02-01T00:00:00Z") }'
    )
    assert answer.json()["data"] == {"share": False}
    assert answer.json()["errors"][0]["extensions"]["code"] == "INVALID_REQUEST"
    assert not asked


@pytest.mark.parametrize(
    ("argument", "problem"), [('message: "a\\u0007b"', "U+0007"), ('message: "%s"' % ("x" * 501), "500")]
)
async def test_what_cannot_be_said_is_named(graphql: Send, asked: Asked, argument: str, problem: str) -> None:
    answer = await graphql(f'mutation {{ share(deviceId: "cam-1", email: "bob@x.test", {argument}) }}')
    assert problem in answer.json()["errors"][0]["message"]
    assert not asked


BULK = """
mutation ($operation: String) {
  shareBulk(operationId: $operation, deviceIds: ["cam-1", "cam-2"], recipients: ["bob@x.test", "nobody"],
            permissions: [LIVE_VIEW], notify: false) {
    operationId items { deviceId recipient outcome shareId code message serviceId }
  }
}
"""


async def test_bulk_has_an_outcome_for_each(graphql: Send, asked: Asked, replies: Replies) -> None:
    refused = {"device_id": "cam-1", "recipient": "nobody", "outcome": "refused", "code": "INVALID_EMAIL",
               "message": "This is not an e-mail address."}  # fmt: skip
    done = {"operation_id": "x", "items": [ITEM, refused], "positions": ["cam-1@3", "cam-2@9"]}
    replies["POST share-command/v1/bulk-shares"] = (200, done)
    first = await graphql(BULK, {"operation": "op-1"})
    result = first.json()["data"]["shareBulk"]
    assert result["operationId"] == "op-1"
    assert [(item["outcome"], item["code"]) for item in result["items"]] == [
        ("REQUESTED", None), ("REFUSED", "INVALID_EMAIL"),
    ]  # fmt: skip
    assert first.headers["latchkey-position"] == "cam-1@3, cam-2@9"
    await graphql(BULK, {"operation": "op-1"})
    await graphql(BULK, {"operation": None}, headers={"Idempotency-Key": "op-1"})
    await graphql(BULK, {"operation": None})
    sent = bodies(asked, "POST share-command/v1/bulk-shares")
    ids = [body["operation_id"] for body in sent]
    assert ids[0] == ids[1] == ids[2] != ids[3], "the same operation is the same for share-command"
    assert "op-1" not in ids[0], "and another account's operation is another"
    assert (sent[0]["permissions"], sent[0]["notify"]) == (["live_view"], False)


async def test_as_many_positions_are_told_as_can_be_waited_for(graphql: Send, replies: Replies) -> None:
    positions = [f"cam-{number}@1" for number in range(150)]
    replies["POST share-command/v1/bulk-shares"] = (
        200, {"operation_id": "x", "items": [], "positions": positions}
    )  # fmt: skip
    answer = await graphql(BULK, {"operation": "op-1"})
    assert answer.headers["latchkey-position"].split(", ") == positions[-100:]


async def test_an_edit_names_what_it_saw(graphql: Send, asked: Asked, replies: Replies) -> None:
    document = (
        'mutation { changeShare(deviceId: "cam-1", shareId: "' + SHARE_ID + '", expectedVersion: 4,'
        ' terms: {services: [{serviceId: "a", permissions: [PTZ]}, {serviceId: "b"}], scripting: true}) }'
    )
    assert (await graphql(document)).content == b'{"data":{"changeShare":true}}'
    (body,) = bodies(asked, "POST share-command/v1/commands/ChangeShare")
    assert body["expected_version"] == 4
    assert body["terms"]["scope"] == {"kind": "some", "services": {"a": ["ptz"], "b": "all"}}
    assert body["terms"]["scripting"] is True
    now = {"code": "CONFLICT", "message": "Changed.", "state": "active", "version": 6, "terms": TERMS}
    replies["POST share-command/v1/commands/ChangeShare"] = (409, {"error": now})
    refused = await graphql(document)
    assert refused.status_code == 200
    assert refused.json()["data"] == {"changeShare": False}
    extensions = refused.json()["errors"][0]["extensions"]
    assert (extensions["code"], extensions["version"], extensions["terms"]) == ("CONFLICT", 6, TERMS)


async def test_asked_too_often(graphql: Send, replies: Replies) -> None:
    error = {"code": "RATE_LIMITED", "message": "Wait.", "retry_after_seconds": 42}
    replies["POST share-command/v1/commands/ResendInvitation"] = (429, {"error": error})
    answer = await graphql(f'mutation {{ resendInvitation(deviceId: "cam-1", shareId: "{SHARE_ID}") }}')
    assert (answer.status_code, answer.headers["retry-after"]) == (429, "42")
    assert answer.json()["data"] == {"resendInvitation": False}
    assert answer.json()["errors"][0]["extensions"] == {"code": "RATE_LIMITED", "retryAfterSeconds": 42}


async def test_what_a_call_would_do(graphql: Send, asked: Asked, replies: Replies) -> None:
    told = {
        "would_be_accepted": False, "code": "SELF_SHARE", "message": "Nobody shares with himself.",
        "items": [{**ITEM, "state_before": "active", "state_after": "active",
                   "permissions_before": {"a": ["connect", "scripting"]}, "permissions_after": {"a": "all"}}],
    }  # fmt: skip
    replies["POST share-command/v1/explanations/RequestShare"] = (200, told)
    answer = await graphql(
        '{ login { explainShare(deviceIds: ["cam-1"], email: "bob@x.test") { wouldBeAccepted code items {'
        " outcome stateBefore before { serviceId permissions scripting } after { permissions } } } } }"
    )
    assert answer.json()["data"]["login"]["explainShare"] == {
        "wouldBeAccepted": False,
        "code": "SELF_SHARE",
        "items": [
            {
                "outcome": "REQUESTED",
                "stateBefore": "active",
                "before": [{"serviceId": "a", "permissions": ["CONNECT"], "scripting": True}],
                "after": [{"permissions": None}],
            }
        ],
    }
    assert not bodies(asked, "POST share-command/v1/commands/RequestShare")


async def test_shares_to_edit(graphql: Send, replies: Replies) -> None:
    share = {"share_id": SHARE_ID, "contact_id": SHARE_ID, "address": "bob@x.test", "remark": "my brother",
             "state": "active", "terms": TERMS, "version": 6, "invitation_version": 4}  # fmt: skip
    replies["GET share-command/v1/shares"] = (200, {"shares": [share]})
    answer = await graphql(
        '{ login { shares(deviceId: "cam-1") { id address remark version terms { services { serviceId }'
        " permissions scripting endsAt } } } }"
    )
    assert answer.json()["data"]["login"]["shares"] == [
        {"id": SHARE_ID, "address": "bob@x.test", "remark": "my brother", "version": 6,
         "terms": {"services": None, "permissions": None, "scripting": False, "endsAt": None}}
    ]  # fmt: skip


async def test_contacts(graphql: Send, asked: Asked, replies: Replies) -> None:
    replies["GET share-command/v1/contacts"] = (200, {"contacts": [
        {"contact_id": SHARE_ID, "address": "+4915112345678", "remark": "gate",
         "last_used_at": "2026-01-01T00:00:00Z"}]})  # fmt: skip
    replies["PUT share-command/v1/contacts/" + SHARE_ID + "/remark"] = (204, None)
    replies["POST share-command/v1/contacts"] = (200, {"contact_id": SHARE_ID})
    found = await graphql('{ login { contacts(containing: "gate") { id email phone remark } } }')
    assert found.json()["data"]["login"]["contacts"] == [
        {"id": SHARE_ID, "email": None, "phone": "+4915112345678", "remark": "gate"}
    ]
    assert asked[-1]["params"] == [("containing", "gate")]
    added = await graphql('mutation { addContact(recipient: "bob@x.test", remark: "brother") }')
    assert added.json() == {"data": {"addContact": SHARE_ID}}
    noted = await graphql(f'mutation {{ setRemark(contactId: "{SHARE_ID}", remark: "cousin") }}')
    assert noted.json() == {"data": {"setRemark": True}}
    gone = await graphql(f'mutation {{ removeRecipient(recipient: "contact:{SHARE_ID}") }}')
    assert gone.json() == {"data": {"removeRecipient": True}}
    assert asked[-1]["body"]["recipient"] == f"contact:{SHARE_ID}"


async def test_a_contact_code_is_shown_and_scanned(graphql: Send, asked: Asked, replies: Replies) -> None:
    replies["POST share-command/v1/contact-codes"] = (
        200, {"code": "abc.def", "ends_at": "2026-01-01T00:10:00Z"},
    )  # fmt: skip
    replies["POST share-command/v1/contact-codes/scans"] = (200, {"contact_id": SHARE_ID, "name": "Bob"})
    shown = await graphql("mutation { createContactCode { code endsAt svg } }")
    code = shown.json()["data"]["createContactCode"]
    assert code["code"] == "abc.def"
    assert code["svg"].startswith("<svg")
    scanned = await graphql('mutation { scanContactCode(code: "abc.def") { id email name } }')
    assert scanned.json()["data"]["scanContactCode"] == {"id": SHARE_ID, "email": None, "name": "Bob"}
    assert asked[-1]["body"] == {"code": "abc.def"}


@pytest.mark.parametrize(("always", "method"), [("true", "PUT"), ("false", "DELETE")])
async def test_always_accept(graphql: Send, asked: Asked, replies: Replies, always: str, method: str) -> None:
    replies[f"{method} share-command/v1/always-accept/dan"] = (204, None)
    answer = await graphql(f'mutation {{ setAlwaysAccept(ownerId: "dan", always: {always}) }}')
    assert answer.json() == {"data": {"setAlwaysAccept": True}}
    assert asked[-1]["call"] == f"{method} share-command/v1/always-accept/dan"


async def test_the_owners_words_are_asked_for_when_they_are_wanted(
    graphql: Send, asked: Asked, replies: Replies
) -> None:
    replies["POST share-command/v1/messages"] = (200, {"messages": {SHARE_ID: "Only the gate."}})
    await graphql("{ login { invitations { id } } }")
    assert not bodies(asked, "POST share-command/v1/messages")
    answer = await graphql("{ login { invitations { id message } } }")
    assert answer.json()["data"]["login"]["invitations"] == [{"id": SHARE_ID, "message": "Only the gate."}]


@pytest.mark.parametrize(
    "call",
    [
        'share(deviceId: "cam-1", email: "bob@x.test", permissions: [])',
        'share(deviceId: "cam-1", email: "bob@x.test", services: [{serviceId: "a", permissions: []}])',
        'shareBulk(deviceIds: ["cam-1"], recipients: ["bob@x.test"], permissions: []) { operationId }',
        'shareBulk(deviceIds: ["cam-1"], recipients: ["bob@x.test"],'
        ' services: [{serviceId: "a", permissions: []}]) { operationId }',
    ],
)
async def test_no_permissions_never_mean_all(graphql: Send, asked: Asked, call: str) -> None:
    answer = await graphql(f"mutation {{ {call} }}")
    assert answer.json()["errors"][0]["extensions"]["code"] == "INVALID_REQUEST"
    assert not [item for item in asked if "share-command" in item["call"]]


async def test_two_bulks_of_one_document_are_two(graphql: Send, asked: Asked, replies: Replies) -> None:
    replies["POST share-command/v1/bulk-shares"] = (
        200, {"operation_id": "x", "items": [], "positions": []},
    )  # fmt: skip
    field = 'shareBulk(deviceIds: ["cam-1"], recipients: ["bob@x.test"]) { operationId }'
    await graphql(f"mutation {{ a: {field} b: {field} }}", headers={"Idempotency-Key": "k"})
    first, second = bodies(asked, "POST share-command/v1/bulk-shares")
    assert first["operation_id"] != second["operation_id"]
