"""Who is told what, on which ways, through real processes: inboxes, mails, pushes, short messages."""

import json
import re
from collections.abc import AsyncGenerator
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID

import pytest
from providers import Browser, Providers, running
from share_events import accepted, revoked

from devstack.keys import new_internal_key
from devstack.smtp import Mail

if TYPE_CHECKING:
    from conftest import World

pytestmark = [pytest.mark.slow, pytest.mark.timeout(150)]  # the first one also starts the servers

UNSUBSCRIBE = re.compile(r"/unsubscribe/(\S+)")


@pytest.fixture
async def providers() -> AsyncGenerator[Providers]:
    async with running() as found:
        yield found


def with_providers(providers: Providers) -> dict[str, object]:
    return {
        "push_key": new_internal_key()[0],
        "push_contact": "mailto:ops@example.com",
        "push_hosts": json.dumps([providers.address]),
        "sms_url": f"{providers.url}/sms",
        "sms_token": "t",
    }


def subjects(mails: list[Mail]) -> list[str]:
    return [mail.subject for mail in mails]


async def test_a_share_is_told_from_invitation_to_revocation_to_both_on_every_way(
    world: "World", providers: Providers
) -> None:
    one = await world.start(**with_providers(providers))
    browser = Browser()
    await world.account("bob", "Bob", "bob@example.com")
    await world.account("eve", "Eve", "eve@example.com")
    body = {"endpoint": f"{providers.url}/push/bob", "keys": browser.keys}
    assert (await world.ask(one, "bob", "POST", "push-subscriptions", json=body)).status_code == 201
    bob = await world.contact("bob@example.com")

    event = await world.invite(bob)
    (mail,) = await world.mails("bob@example.com")
    page: dict[str, Any] = (await world.ask(one, "bob", "GET", "inbox")).json()
    (entry,) = page["items"]
    assert (entry["kind"], entry["open"], entry["device_name"]) == ("invitation", True, "Front door")
    assert (entry["sharer"], entry["recipient"]) == ({"account_id": "ann", "name": "Ann Example"}, None)
    assert (page["unread"], page["next"], entry["invitation_version"]) == (1, None, 1)
    (push,) = await providers.until(1, "/push/bob")
    told = json.loads(browser.read(push["body"]))
    assert told["title"] == mail.subject
    assert "/invitations/" in told["url"]
    accepting, rejecting = told["actions"]
    assert (accepting["title"], rejecting["title"]) == ("Accept", "Reject")
    assert accepting["url"] == told["url"] != rejecting["url"]
    topic = push["headers"]["topic"]

    await world.event(accepted(event))
    (mail,) = await world.mails("ann@example.com")
    assert mail.subject == "bob@example.com accepted Front door"
    await world.opened(event, "bob")
    await world.opened(event, "bob")
    _, mail = await world.mails("ann@example.com", 2)
    assert mail.subject == "bob@example.com used Front door for the first time"
    assert await world.inbox(one, "ann") == ["first_use", "accepted"]

    await world.event(revoked(event))
    _, mail = await world.mails("bob@example.com", 2)
    assert mail.subject == "Ann Example no longer shares Front door with you"
    _, push = await providers.until(2, "/push/bob")
    assert push["headers"]["topic"] == topic  # it replaces what has not been delivered
    assert await world.inbox(one, "bob") == ["revoked", "invitation"]
    assert await world.inbox(one, "eve") == []

    answer = await world.ask(
        one, "eve", "POST", "inbox/marks", json={"notice_ids": [entry["notice_id"]], "mark": "read"}
    )
    assert answer.status_code == 204
    assert (await world.ask(one, "bob", "GET", "inbox")).json()["unread"] == 2
    for mark, until, unread in (
        ("read", None, 1),
        ("unread", None, 2),
        ("later", datetime.now(UTC) + timedelta(hours=1), 1),
    ):
        marking = {
            "notice_ids": [entry["notice_id"]], "mark": mark, "until": until.isoformat() if until else None
        }  # fmt: skip
        assert (await world.ask(one, "bob", "POST", "inbox/marks", json=marking)).status_code == 204
        assert (await world.ask(one, "bob", "GET", "inbox")).json()["unread"] == unread
    assert await world.inbox(one, "bob") == ["revoked"]
    answer = await world.ask(one, "bob", "GET", "inbox?put_off=true&size=1")
    answer = await world.ask(one, "bob", "GET", f"inbox?put_off=true&cursor={answer.json()['next']}")
    assert [item["kind"] for item in answer.json()["items"]] == ["invitation"]


async def test_who_has_a_share_no_more_learns_nothing_new_of_it(world: "World") -> None:
    """Neither how the device is called now, nor what another owner shares with whom."""
    one = await world.start()
    await world.account("bob", "Bob", "bob@example.com")
    await world.account("eve", "Eve", "eve@example.com")
    event = await world.invite(await world.contact("bob@example.com"))
    await world.mails("bob@example.com")
    await world.event(accepted(event))
    await world.event(revoked(event))
    await world.mails("bob@example.com", 2)
    await world.device("cam-1", "Bedroom")
    await world.event(event.model_copy(update={"owner_account_id": "eve"}))  # a contact's share keeps its id

    async def told(account_id: str) -> list[tuple[str, str, str, bool]]:
        page = (await world.ask(one, account_id, "GET", "inbox")).json()
        return [
            (item["kind"], item["device_name"], item["state"], item["open"]) for item in page["items"]
        ]  # fmt: skip

    async def renamed() -> bool:
        return (await told("bob"))[0] == ("invitation", "Bedroom", "requested", True)

    await world.until(renamed)
    assert (await told("bob"))[1:] == [
        ("revoked", "Front door", "ended", False), ("invitation", "Front door", "ended", False)
    ]  # fmt: skip
    assert await told("ann") == [("accepted", "Front door", "ended", False)]


async def test_what_people_choose_is_kept(world: "World", providers: Providers) -> None:
    one = await world.start(**with_providers(providers))
    await world.account("bob", "Bob", "bob@example.com")
    bob = await world.contact("bob@example.com")
    chosen = {"language": "de", "wanted": {"share_changed": {"email": False}}}
    assert (await world.ask(one, "bob", "PUT", "preferences", json=chosen)).status_code == 204
    kept = (await world.ask(one, "bob", "GET", "preferences")).json()
    assert (kept["language"], kept["wanted"]["share_changed"]["email"]) == ("de", False)
    assert kept["wanted"]["invitation"] == {"email": True, "sms": True, "web_push": True, "fcm": True}

    event = await world.invite(bob)
    (mail,) = await world.mails("bob@example.com")
    assert mail.subject == "Ann Example möchte Front door mit Ihnen teilen"
    (token,) = UNSUBSCRIBE.findall(mail.text)
    assert mail.header("List-Unsubscribe") == f"<http://127.0.0.1:8080/unsubscribe/{token}>"

    looked = await world.ask(one, "x", "POST", "unsubscriptions/look", json={"token": token})
    assert looked.json() == {"kinds": ["invitation"]}
    await world.event(revoked(event, None))
    await world.mails("bob@example.com", 2)
    again = await world.invite(bob)
    await world.mails("bob@example.com", 3)  # looking changed nothing
    assert (await world.ask(one, "x", "POST", "unsubscriptions", json={"token": token})).status_code == 200
    await world.event(revoked(again, None))
    await world.mails("bob@example.com", 4)
    await world.invite(bob)
    await world.marker()
    assert len(world.mailbox.messages("bob@example.com")) == 4
    assert (await world.inbox(one, "bob"))[0] == "invitation"

    wrong: list[tuple[str, str, dict[str, Any]]] = [
        ("PUT", "preferences", {"time_zone": "Mars/Base"}),
        ("PUT", "preferences", {"quiet_hours": {"from": "22:00", "until": "07:00"}}),
        ("PUT", "preferences", {"wanted": {"everything": {"email": False}}}),
        ("PUT", "preferences", {"language": "<script>"}),
        ("POST", "inbox/marks", {"notice_ids": [str(UUID(int=1))], "mark": "later"}),
        ("POST", "inbox/marks", {"notice_ids": [], "mark": "read"}),
        ("POST", "push-subscriptions", {"endpoint": "http://10.0.0.1/x", "keys": Browser().keys}),
        (
            "POST",
            "push-subscriptions",
            {"endpoint": f"{providers.url}/x", "keys": {"p256dh": "x", "auth": "y"}},
        ),
        ("POST", "push-subscriptions", {"fcm_token": "a-token-of-an-app"}),
        ("GET", "inbox?cursor=xx", {}),
        ("GET", "inbox?size=0", {}),
    ]
    for method, path, body in wrong:
        answer = await world.ask(one, "bob", method, path, json=body)
        assert answer.status_code == 422, (path, body, answer.text)
        assert answer.json()["error"]["code"]
    assert (
        await world.ask(one, "x", "POST", "unsubscriptions", json={"token": token + "x"})
    ).status_code == 404


async def test_a_bulk_is_one_mail_and_single_ones_are_gathered(world: "World") -> None:
    await world.start(digest_seconds=1)
    bob = await world.contact("bob@example.com")
    for number in range(5):
        await world.device(f"cam-{number}", f"Camera {number}")
    for number in range(5):
        await world.invite(bob, device_id=f"cam-{number}", causation=f"bulk-7/cam-{number}")
    (mail,) = await world.mails("bob@example.com")
    assert mail.subject == "Ann Example wants to share 5 devices with you"
    assert all(f"Camera {number}" in mail.text for number in range(5))

    cat = await world.contact("cat@example.com")
    await world.invite(cat, device_id="cam-0")
    await world.mails("cat@example.com")
    for number in (1, 2, 3):
        await world.invite(cat, device_id=f"cam-{number}")
    first, second = await world.mails("cat@example.com", 2)
    assert first.subject == "Ann Example wants to share Camera 0 with you"
    assert second.subject == "Ann Example wants to share 3 devices with you"
    assert len(world.mailbox.messages("bob@example.com")) == 1


async def test_an_address_that_takes_no_mail_gets_none_and_its_sharer_is_told(world: "World") -> None:
    world.mailbox.fail_next(550)
    await world.start()
    bob = await world.contact("bob@example.com")
    await world.invite(bob)
    (mail,) = await world.mails("ann@example.com")
    assert mail.subject == "bob@example.com could not be told about Front door"
    await world.device("cam-2", "Gate")
    await world.invite(bob, device_id="cam-2")
    _, mail = await world.mails("ann@example.com", 2)
    assert mail.subject == "bob@example.com could not be told about Gate"
    assert [row["code"] for row in await world.deliveries(bob)] == ["RECIPIENT_REFUSED", "ADDRESS_REFUSED"]
    assert world.mailbox.messages("bob@example.com") == []


async def test_a_mail_server_that_hangs_holds_up_neither_pushes_nor_short_messages(
    world: "World", providers: Providers
) -> None:
    world.gate.close()
    one = await world.start(delivery_concurrency=1, **with_providers(providers))
    browser = Browser()
    await world.account("bob", "Bob", "bob@example.com")
    body = {"endpoint": f"{providers.url}/push/bob", "keys": browser.keys}
    await world.ask(one, "bob", "POST", "push-subscriptions", json=body)
    await world.invite(await world.contact("bob@example.com"))
    await world.invite(await world.contact("tel:+4915112345678"))
    await providers.until(1, "/push/bob")
    (sms,) = await providers.until(1, "/sms")
    assert json.loads(sms["body"])["text"] == (
        "Ann Example wants to share Front door with you: http://127.0.0.1:8080/"
    )
    providers.answers.append((410, {}, None))  # the browser is gone
    await world.device("cam-2", "Gate")
    await world.invite(await world.contact("bob@example.com"), device_id="cam-2")
    await providers.until(2, "/push/bob")

    async def forgotten() -> bool:
        return (await world.ask(one, "bob", "GET", "push-subscriptions")).json()["items"] == []

    await world.until(forgotten)
    assert world.mailbox.messages() == []
    world.gate.open()
    await world.mails("bob@example.com", 2)


async def test_mails_to_a_domain_that_hangs_hold_up_no_others(world: "World") -> None:
    world.gate.close(b"@slow.example")
    await world.start(delivery_concurrency=2)
    for number in range(4):
        await world.invite(await world.contact(f"friend-{number}@slow.example"), device_id="cam-1")
    await world.gate.reached.wait()
    await world.marker()
    assert [mail for mail in world.mailbox.messages() if mail.recipients[0].endswith("slow.example")] == []
    world.gate.open()
    for number in range(4):
        await world.mails(f"friend-{number}@slow.example")


async def test_an_end_is_announced_once_though_several_look_at_the_clock(world: "World") -> None:
    await world.start()
    await world.start()
    bob = await world.contact("bob@example.com")
    await world.invite(bob, expires_at=datetime.now(UTC) + timedelta(hours=24, seconds=2))
    _, mail = await world.mails("bob@example.com", 2)
    assert mail.subject == "The invitation to Front door ends soon"
    await world.marker()
    assert len(world.mailbox.messages("bob@example.com")) == 2


async def test_what_a_contact_was_told_is_not_shown_to_who_gets_its_number_later(
    world: "World", providers: Providers
) -> None:
    one = await world.start(**with_providers(providers))
    number = await world.contact("tel:+4915112345678")
    event = await world.invite(number)
    await providers.until(1, "/sms")
    await world.event(accepted(event, "old"))
    await world.mails("ann@example.com")
    phones = {"new": ("+4915112345678",)}
    await world.account("new", "New", phones=phones["new"])
    await world.marker()
    assert await world.inbox(one, "new") == []
