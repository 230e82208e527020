"""What GraphQL has beyond `share`, through real processes: what each of two people sees afterwards."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest

from devstack import seed
from devstack.client import Account, RefusedError
from devstack.world import World, until

BOB, CAT, DAN = seed.RECIPIENT_EMAIL, "cat@example.test", "dan@example.test"

CHANGE = """
mutation($device: String!, $share: String!, $version: Int!, $terms: TermsInput!, $message: String) {
  changeShare(deviceId: $device, shareId: $share, expectedVersion: $version, terms: $terms, message: $message)
}
"""
RESEND = (
    "mutation($device: String!, $share: String!) { resendInvitation(deviceId: $device, shareId: $share) }"
)
GIVEN = """
query($device: String!) { login { shares(deviceId: $device) {
  id state address remark version message terms { services { serviceId permissions } endsAt }
} } }
"""
INVITATIONS = """
{ login { invitations {
  id device { id } invitationVersion message endsAt services { id permissions }
} } }
"""
DEVICE = "query($id: [String!]!) { login { device(id: $id) { id services { id permissions } } } }"
BOOK = "query($part: String) { login { contacts(containing: $part) { id email name remark } } }"
SHOW = "mutation { createContactCode { code endsAt svg } }"
SCAN = "mutation($code: String!) { scanContactCode(code: $code) { id email name } }"
ALWAYS = "mutation($owner: String!, $always: Boolean!) { setAlwaysAccept(ownerId: $owner, always: $always) }"
REMARK = "mutation($contact: String!, $remark: String!) { setRemark(contactId: $contact, remark: $remark) }"


async def given(owner: Account, device: str) -> dict[str, Any]:
    """The one share of a device, as its owner edits it."""
    (share,) = (await owner.ask(GIVEN, device=device))["login"]["shares"]
    return share


async def services_of(account: Account, device: str) -> list[str]:
    """What the account may use of a device; empty when the device is not among its own."""
    found = (await account.ask(DEVICE, id=[device]))["login"]["device"]
    return [service["id"] for item in found for service in item["services"]]


async def refusal(world: World, email: str, document: str, **variables: object) -> dict[str, Any]:
    """The extensions of the one error that answers a document."""
    answer = await world.portal.post(
        "/graphql/v1",
        json={"query": document, "variables": variables},
        headers={"Authorization": f"Bearer {await world.token(email)}"},
    )
    (error,) = answer.json()["errors"]
    return error["extensions"]


async def test_changed_terms_are_in_the_others_list_and_at_the_door(world: World) -> None:
    device = await world.device()
    owner, bob = await world.shared(device)
    assert await services_of(bob, device) == [f"{device}.1", f"{device}.2"]
    seen = await given(owner, device)
    terms = {"services": [{"serviceId": f"{device}.1", "permissions": ["CONNECT"]}]}
    named = {"device": device, "share": seen["id"], "version": seen["version"]}
    assert await owner.ask(CHANGE, **named, terms=terms) == {"changeShare": True}
    bob.position = owner.position
    assert await services_of(bob, device) == [f"{device}.1"]
    (await world.open(bob, f"{device}.1")).writer.close()
    with pytest.raises(RefusedError):
        await bob.connect(f"{device}.2")

    conflict = await refusal(world, seed.OWNER_EMAIL, CHANGE, **named, terms={"services": None})
    assert conflict["code"] == "CONFLICT"
    now = await given(owner, device)
    assert conflict["version"] == now["version"] > seen["version"]
    assert [item["serviceId"] for item in now["terms"]["services"]] == [f"{device}.1"]
    by_bob = await refusal(world, BOB, CHANGE, **{**named, "version": now["version"]}, terms={})
    assert by_bob["code"] == "DEVICE_NOT_FOUND"
    bob.position = owner.position
    assert await services_of(bob, device) == [f"{device}.1"]


async def test_changed_terms_are_in_the_open_invitation_and_the_old_ones_cannot_be_accepted(
    world: World,
) -> None:
    device = await world.device()
    owner, bob = await world.account(seed.OWNER_EMAIL), await world.account(BOB)
    await owner.share(device, BOB)
    bob.position = owner.position
    before = await bob.invitation(device)
    assert before is not None
    seen = await given(owner, device)
    ends_at = (datetime.now(UTC) + timedelta(days=1)).replace(microsecond=0)
    terms = {"services": [{"serviceId": f"{device}.2"}], "endsAt": ends_at.isoformat()}
    await owner.ask(
        CHANGE, device=device, share=seen["id"], version=seen["version"], terms=terms,
        message="Only the second, <b>and</b> for a day.",
    )  # fmt: skip
    bob.position = owner.position
    listed = (await bob.ask(INVITATIONS))["login"]["invitations"]
    (after,) = [item for item in listed if item["device"]["id"] == device]
    assert after["services"] == [{"id": f"{device}.2", "permissions": None}]
    assert datetime.fromisoformat(after["endsAt"]) == ends_at
    assert after["message"] == "Only the second, <b>and</b> for a day."
    assert after["invitationVersion"] > before["invitationVersion"]

    async def told_again() -> bool:
        return len(await world.mails(BOB, device)) == 2

    await until(told_again)

    accept = (
        "mutation($device: String!, $share: String!, $version: Int!) { acceptInvitation(deviceId: $device,"
        " shareId: $share, invitationVersion: $version) }"
    )
    stale = {"device": device, "share": before["id"], "version": before["invitationVersion"]}
    assert (await refusal(world, BOB, accept, **stale))["code"] == "CONFLICT"
    await bob.accept(device)
    assert await services_of(bob, device) == [f"{device}.2"]


@pytest.mark.slow
@pytest.mark.timeout(150)
async def test_an_invitation_is_sent_again_once_a_minute_has_passed(world: World) -> None:
    device = await world.device()
    owner = await world.account(seed.OWNER_EMAIL)
    address = f"{device}@example.test"
    await owner.share(device, address)
    await until(lambda: world.mails(address, device))
    named = {"device": device, "share": (await given(owner, device))["id"]}
    early = await refusal(world, seed.OWNER_EMAIL, RESEND, **named)
    assert early["code"] == "RATE_LIMITED"
    assert 0 < early["retryAfterSeconds"] <= 60
    assert (await refusal(world, BOB, RESEND, **named))["code"] == "DEVICE_NOT_FOUND"
    await asyncio.sleep(early["retryAfterSeconds"])  # as it asks for: what is under test is this answer
    assert await owner.ask(RESEND, **named) == {"resendInvitation": True}

    async def two() -> bool:
        return len(await world.mails(address, device)) == 2

    await until(two)


async def test_who_showed_a_contact_code_is_in_the_book_by_name_and_can_be_invited(world: World) -> None:
    device = await world.device(owner="bob")
    bob, cat = await world.account(BOB), await world.account(CAT)
    assert (await bob.ask(BOOK, part="cat@"))["login"]["contacts"] == []
    shown = (await cat.ask(SHOW))["createContactCode"]
    assert "example.test" not in str(shown)
    assert datetime.fromisoformat(shown["endsAt"]) > datetime.now(UTC) + timedelta(minutes=5)
    scanned = (await bob.ask(SCAN, code=shown["code"]))["scanContactCode"]
    assert (scanned["name"], scanned["email"]) == ("Cat Ngo", None)
    for part in ("CAT@", "ngo"):
        assert (await bob.ask(BOOK, part=part))["login"]["contacts"] == [
            {"id": scanned["id"], "email": CAT, "name": "Cat Ngo", "remark": None}
        ]
    assert (await cat.ask(BOOK, part="bob"))["login"]["contacts"] == []

    await bob.share(device, f"contact:{scanned['id']}")
    cat.position = bob.position
    assert await cat.invitation(device) is not None
    assert await until(lambda: world.mails(CAT, device))

    for email, code, expected in (
        (BOB, shown["code"][:-2], "INVALID_CONTACT_CODE"),
        (CAT, shown["code"], "SELF_SHARE"),
    ):
        assert (await refusal(world, email, SCAN, code=code))["code"] == expected


async def test_an_address_that_was_typed_stands_in_the_book_without_a_name(world: World) -> None:
    owner = await world.account(seed.OWNER_EMAIL)
    add = "mutation($recipient: String!) { addContact(recipient: $recipient) }"
    for address in (DAN, f"nobody-{uuid4().hex[:8]}@example.test"):
        await owner.ask(add, recipient=address)
        (contact,) = (await owner.ask(BOOK, part=address))["login"]["contacts"]
        assert (contact["email"], contact["name"]) == (address, None)


async def test_a_share_from_who_is_always_accepted_is_active_without_a_click(world: World) -> None:
    first, second = await world.device(), await world.device()
    owner, dan = await world.account(seed.OWNER_EMAIL), await world.account(DAN)
    assert await dan.ask(ALWAYS, owner="ann", always=True) == {"setAlwaysAccept": True}
    try:
        await owner.share(first, DAN, notify=False)
        dan.position = owner.position
        assert await services_of(dan, first) == [f"{first}.1", f"{first}.2"]
        assert await dan.invitation(first) is None
        (await world.open(dan, f"{first}.1")).writer.close()
        assert (await given(owner, first))["state"] == "active"
        rules = (await dan.ask("{ login { alwaysAccepted { ownerId name } } }"))["login"]["alwaysAccepted"]
        assert rules == [{"ownerId": "ann", "name": "Ann Keller"}]
    finally:
        await dan.ask(ALWAYS, owner="ann", always=False)
    await owner.share(second, DAN, notify=False)
    dan.position = owner.position
    assert await services_of(dan, second) == []
    assert await dan.invitation(second) is not None
    with pytest.raises(RefusedError):
        await dan.connect(f"{second}.1")
    assert await services_of(dan, first) == [f"{first}.1", f"{first}.2"]


# Whatever GraphQL answers to a recipient, in one document.
EVERYTHING = """
query($device: String!, $ids: [String!]!, $services: [String!]!, $email: [String!]!) { login {
  id email
  account { id email }
  device(id: $ids) { id name owner { id email } scripting permissions shareState
    access { created scripting user { id email } } pending { shareId email scripting created }
    services { id name permissions access { user { id email } } } }
  devices { total items { id name access { user { id email } } } }
  invitations { id device { id name } owner { id email } message services { id permissions } }
  contacts { id email phone name remark }
  alwaysAccepted { ownerId name }
  guest { user { id email } devices { id } }
  service(id: $services) { id name access { user { id email } } }
  shares(deviceId: $device) { id address remark message }
  explainShare(deviceIds: $ids, email: $email, action: LEAVE) { wouldBeAccepted code message
    items { deviceId recipient outcome code message } }
} }
"""


async def test_a_remark_is_in_the_owners_answer_and_in_none_of_the_others(world: World) -> None:
    device = await world.device()
    owner, bob = await world.account(seed.OWNER_EMAIL), await world.account(BOB)
    marker = f"borrowed-{uuid4().hex[:8]}"
    await owner.share(device, BOB)
    (contact,) = (await owner.ask(BOOK, part=BOB))["login"]["contacts"]
    assert await owner.ask(REMARK, contact=contact["id"], remark=f"{marker} my drill") == {"setRemark": True}
    (noted,) = (await owner.ask(BOOK, part=marker))["login"]["contacts"]
    assert (noted["id"], noted["remark"]) == (contact["id"], f"{marker} my drill")
    assert (await given(owner, device))["remark"] == f"{marker} my drill"

    bob.position = owner.position
    asked = {"device": device, "ids": [device], "services": [f"{device}.1"], "email": [BOB]}
    answers = [await bob.ask(EVERYTHING, **asked)]
    assert device in str(answers[0]["login"]["invitations"])
    await bob.accept(device)
    answers.append(await bob.ask(EVERYTHING, **asked))
    assert answers[1]["login"]["device"][0]["id"] == device
    mails = await until(lambda: world.mails(BOB, device))
    assert marker not in str(answers)
    assert marker not in str(mails)
    assert (await refusal(world, BOB, REMARK, contact=contact["id"], remark="mine"))["code"] == (
        "CONTACT_NOT_FOUND"
    )
    assert (await given(owner, device))["remark"] == f"{marker} my drill"

    await owner.ask(REMARK, contact=contact["id"], remark="")
    assert (await given(owner, device))["remark"] is None
