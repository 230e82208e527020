"""What people are told, in the app: the inbox, its ways and hours, and pushes to the browser."""

import re
from typing import Any
from uuid import uuid4

import pytest
from playwright.async_api import Locator, Page, expect
from walking import BOB, Audit, Person, named_device

from devstack import seed
from devstack.world import World

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

SETTINGS = "{ login { noticeSettings { timeZone quietFrom preferences { kind channel wanted } } } }"
WITH_SCRIPTING = """
mutation($device: String!, $email: [String!]!) {
  share(deviceId: $device, email: $email, scripting: true, notify: false)
}
"""
SUBSCRIPTIONS = "{ login { pushSubscriptions { items { id channel } } } }"
# A browser without a screen subscribes at no push service: here is one that gives what a service would.
PUSH_SERVICE = """
const encoded = (bytes) => new Uint8Array(bytes).toBase64({alphabet: 'base64url', omitPadding: true});
PushManager.prototype.subscribe = async () => {
  const pair = await crypto.subtle.generateKey({name: 'ECDH', namedCurve: 'P-256'}, true, ['deriveBits']);
  const p256dh = encoded(await crypto.subtle.exportKey('raw', pair.publicKey));
  const auth = encoded(crypto.getRandomValues(new Uint8Array(16)));
  const endpoint = 'https://updates.push.services.mozilla.com/wpush/v2/' + crypto.randomUUID();
  localStorage.setItem('push service', 'subscribed');
  return {toJSON: () => ({endpoint, keys: {p256dh, auth}})};
};
PushManager.prototype.getSubscription = async () =>
  localStorage.getItem('push service') && {unsubscribe: async () => localStorage.removeItem('push service')};
"""


def told(page: Page, words: str) -> Locator:
    """A line of the list of notices."""
    return page.get_by_role("list", name="Notices").get_by_role("listitem").filter(has_text=words)


async def test_notices_come_by_themselves_and_stay_read(world: World, person: Person, audit: Audit) -> None:
    name = f"Winch {uuid4().hex[:6]}"
    device = await named_device(world, name)
    ann, bob = await person("ann", "/inbox"), await person("bob", "/inbox", width=390, scheme="dark")
    owner = await world.account(seed.OWNER_EMAIL)
    await owner.share(device, BOB, notify=False)
    card = bob.get_by_role("listitem").filter(has=bob.get_by_role("heading", name=name))
    await expect(card).to_be_visible()
    await expect(told(bob, name)).to_have_count(0)  # it stands above, to be answered
    await card.get_by_role("button", name="Accept").click()
    await expect(told(bob, f"Ann Keller invited you to {name}.")).to_be_visible()
    await expect(told(bob, name)).not_to_contain_text("Unread")  # who has answered it has read it

    line = told(ann, f"{BOB} accepted {name}.")
    await expect(line).to_contain_text("Unread")  # live, without a reload
    await expect(ann.get_by_role("navigation", name="Main").get_by_text("waiting")).to_be_attached()
    await audit(ann, "the inbox with notices")
    await audit(bob, "the inbox with notices on a phone, dark")
    await line.get_by_role("button", name="Mark as read").click()
    await expect(line).not_to_contain_text("Unread")
    await ann.reload()
    await expect(line).to_be_visible()
    await expect(line).not_to_contain_text("Unread")
    await line.get_by_role("button", name="Mark as unread").click()
    await expect(line).to_contain_text("Unread")
    await ann.get_by_role("button", name="Mark all as read").click()
    await expect(ann.get_by_text("Unread: ")).to_have_count(0)
    await expect(ann.get_by_role("button", name="Mark all as read")).to_have_count(0)
    await line.get_by_role("link", name=name).click()
    await expect(ann.get_by_role("heading", level=1, name=name)).to_be_visible()

    await owner.share(device, BOB, action="REMOVE")
    gone = told(bob, f"Ann Keller does not share {name} with you any more.")
    await expect(gone).to_contain_text("Unread")
    await expect(gone.get_by_role("link")).to_have_count(0)


async def test_what_is_put_off_is_so_on_every_device_until_it_is_asked_anew(
    world: World, person: Person, audit: Audit
) -> None:
    name = f"Hoist {uuid4().hex[:6]}"
    device = await named_device(world, name)
    phone, desk = await person("bob", "/inbox", width=390), await person("bob", "/inbox")
    owner = await world.account(seed.OWNER_EMAIL)
    await owner.share(device, BOB, notify=False)

    def card(page: Page, where: str) -> Locator:
        cards = page.get_by_role("list", name=where).get_by_role("listitem")
        return cards.filter(has=page.get_by_role("heading", name=name))

    await expect(card(desk, "Invitations")).to_be_visible()
    await card(phone, "Invitations").get_by_role("button", name="Decide later").click()
    for page in (phone, desk):  # the other one is not reloaded
        await expect(card(page, "Put off")).to_be_visible()
        await expect(card(page, "Invitations")).to_have_count(0)
    await audit(phone, "an invitation that is put off, on a phone")
    await phone.reload()
    await expect(card(phone, "Put off")).to_be_visible()

    await owner.ask(WITH_SCRIPTING, device=device, email=[BOB])
    for page in (phone, desk):  # other terms are another question
        await expect(card(page, "Invitations")).to_contain_text("May run scripts")
    await card(desk, "Invitations").get_by_role("button", name="Decide later").click()
    await card(phone, "Put off").get_by_role("button", name="Reject").click()
    for page in (phone, desk):
        await expect(card(page, "Put off")).to_have_count(0)

    await owner.share(device, BOB, notify=False)
    await card(phone, "Invitations").get_by_role("button", name="Decide later").click()
    await card(desk, "Put off").get_by_role("button", name="Accept").click()
    for page in (phone, desk):
        await expect(card(page, "Put off")).to_have_count(0)
    await desk.get_by_role("link", name="Devices").click()
    await desk.get_by_label("Search devices").fill(name)
    await expect(desk.get_by_role("link", name=name, exact=True)).to_be_visible()


async def test_ways_and_quiet_hours_are_chosen(world: World, person: Person, audit: Audit) -> None:
    cat = await person("cat", "/account", width=390, scheme="dark")
    card = cat.get_by_role("region", name="Notices")
    rejected = card.get_by_role("checkbox", name="Somebody rejected what I share: E-mail")
    await expect(rejected).to_be_checked()
    await audit(cat, "the account page with ways, on a phone, dark")
    await rejected.uncheck()
    await card.get_by_label("Quiet hours").check()
    await card.get_by_label("From").fill("23:30")
    await card.get_by_label("Until").fill("23:30")
    await expect(card.get_by_role("button", name="Save hours")).to_be_disabled()
    await card.get_by_label("Until").fill("06:15")
    await card.get_by_label("Time zone").select_option("Europe/Berlin")
    await card.get_by_label("Language of notices").select_option("Deutsch")
    await audit(cat, "quiet hours on a phone, dark")
    await card.get_by_role("button", name="Save hours").click()
    await expect(cat.get_by_role("status").filter(has_text="Saved.")).to_be_visible()
    await cat.reload()
    await expect(card.get_by_label("From")).to_have_value("23:30")
    await expect(card.get_by_label("Until")).to_have_value("06:15")
    await expect(card.get_by_label("Time zone")).to_have_value("Europe/Berlin")
    await expect(card.get_by_label("Language of notices")).to_have_value("de")
    await expect(rejected).not_to_be_checked()
    account = await world.account("cat@example.test")
    settings = (await account.ask(SETTINGS))["login"]["noticeSettings"]
    assert (settings["timeZone"], settings["quietFrom"]) == ("Europe/Berlin", "23:30:00")
    unwanted = [item for item in settings["preferences"] if not item["wanted"] and item["channel"] == "email"]
    assert unwanted == [{"kind": "rejected", "channel": "email", "wanted": False}]
    await card.get_by_label("Quiet hours").uncheck()
    await card.get_by_label("Language of notices").select_option("English")
    await card.get_by_role("button", name="Save hours").click()
    await expect(cat.get_by_role("status").filter(has_text="Saved.")).to_be_visible()
    assert (await account.ask(SETTINGS))["login"]["noticeSettings"]["quietFrom"] is None


async def test_a_browser_gets_pushes_until_it_is_switched_off_or_signed_out(
    world: World, person: Person, audit: Audit
) -> None:
    dan = await person("dan")
    await dan.context.grant_permissions(["notifications"])
    await dan.add_init_script(PUSH_SERVICE)
    await dan.goto("/account")
    account = await world.account("dan@example.test")

    async def subscribed() -> list[Any]:
        return (await account.ask(SUBSCRIPTIONS))["login"]["pushSubscriptions"]["items"]

    card = dan.locator("section").filter(
        has=dan.get_by_role("heading", name="Notices in this browser", exact=True)
    )
    turn_on, turn_off = (card.get_by_role("button", name=name) for name in ("Turn on", "Turn off"))
    await turn_on.click()
    await expect(turn_off).to_be_visible()
    await audit(dan, "the account page with pushes on")
    assert [item["channel"] for item in await subscribed()] == ["web_push"]
    await dan.reload()
    await expect(turn_off).to_be_visible()
    await turn_off.click()
    await expect(turn_on).to_be_visible()
    assert await subscribed() == []
    await turn_on.click()
    await expect(turn_off).to_be_visible()
    await dan.get_by_role("button", name="Sign out").click()
    await expect(dan.get_by_role("link", name=re.compile("Sign in"))).to_be_visible()
    assert await subscribed() == []
