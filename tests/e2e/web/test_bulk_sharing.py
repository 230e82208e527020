"""The walk of bulk sharing with contacts (requirements W1 to W11), by two people at two browsers."""

import asyncio
import os
import re
import shutil
from functools import partial
from uuid import uuid4

import pytest
from playwright.async_api import Locator, Page, Route, expect
from walking import BOB, Audit, Person, named_device, open_bulk, pick, row

from devstack import seed
from devstack.client import RefusedError
from devstack.world import Connection, World, until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]


async def test_devices_are_shared_accepted_seen_used_and_taken_back(
    world: World, person: Person, audit: Audit
) -> None:
    names = [f"Pump {uuid4().hex[:6]}", f"Valve {uuid4().hex[:6]}"]
    for name in names:
        await named_device(world, name)
    ann, bob = await person("ann"), await person("bob", "/inbox", width=390, scheme="dark")
    share_icon = row(ann, names[0]).get_by_role("link").last
    await expect(share_icon).to_have_attribute("data-state", "none")  # W2
    await audit(ann, "the device list")

    bulk = await open_bulk(ann, *names)  # W1, W3
    await expect(bulk.get_by_role("heading", name="Bulk Sharing")).to_be_visible()
    await expect(bulk.get_by_role("button", name="Add Sharing")).to_be_disabled()
    await pick(ann, BOB, "dan@example.test")  # W4
    await bulk.get_by_label("Message to who is invited").fill("For the move.")
    await expect(bulk.get_by_label("What will happen")).to_contain_text(f"{BOB} is invited to 2 devices")
    await audit(ann, "the Bulk Sharing dialog")
    await bulk.get_by_role("button", name="Add Sharing").click()
    confirmation = ann.get_by_role("dialog", name="Sharing Confirmation")  # W6
    await expect(confirmation.get_by_text("4 shares done")).to_be_visible()
    await expect(confirmation.get_by_role("row")).to_have_count(5)
    await audit(ann, "the Sharing Confirmation")
    await confirmation.get_by_role("button", name="Close").last.click()

    for mailed in names:  # W5
        (mail,) = await until(partial(world.mails, BOB, mailed), 40)
        assert re.search(r"https?://\S+/invitations/\S+", mail["text"])
    card = bob.get_by_role("listitem").filter(has=bob.get_by_role("heading", name=names[0]))
    await expect(card).to_contain_text("For the move.")  # live, without a reload
    await audit(bob, "the inbox on a phone, dark")
    await card.get_by_role("button", name="Accept").click()
    await expect(card).to_be_hidden()

    await bob.get_by_role("link", name="Devices").click()
    incoming = row(bob, names[0]).get_by_role("link").last
    await expect(incoming).to_have_attribute("data-state", "in")  # W7
    assert await incoming.get_attribute("aria-label") == "Shared with you by Ann Keller"  # W8
    await incoming.focus()
    await expect(bob.locator(".tip").filter(has_text="Ann Keller").first).to_be_visible()
    await expect(share_icon).to_have_attribute("data-state", "out")  # W9
    label = await share_icon.get_attribute("aria-label")
    assert label is not None
    assert BOB in label
    await share_icon.hover()
    await expect(row(ann, names[0]).locator(".tip")).to_be_visible()

    await cut_by_hand(ann, names[0], await used_and_not_renamed(bob, names[0], audit))
    await taken_back(ann, bob, names[0], audit)


async def used_and_not_renamed(bob: Page, name: str, audit: Audit) -> str:
    """Bob connects as if it were his, to the address returned; what he may not do has no control."""
    await row(bob, name).get_by_role("link", name=name).click()  # W10
    await bob.get_by_role("button", name="Connect").click()
    way_in = bob.get_by_role("dialog", name="Connect to")
    await way_in.get_by_role("button", name="Connect", exact=True).click()
    address = await way_in.get_by_text(re.compile(r"^127\.0\.0\.1:\d+$")).inner_text()
    await audit(bob, "the Connect dialog on a phone, dark")
    await way_in.get_by_role("button", name="Close").last.click()
    await expect(bob.get_by_role("button", name="Rename")).to_have_count(0)  # W11
    await expect(bob.get_by_role("button", name="Share…")).to_have_count(0)
    await audit(bob, "a device that is shared with me, on a phone, dark")
    return address


async def cut_by_hand(ann: Page, name: str, address: str) -> None:
    """Ann sees who is connected, and cuts it."""
    host, _, port = address.partition(":")
    connection = Connection(*await asyncio.open_connection(host, int(port)))
    assert await connection.echo(b"ping") == b"ping"
    await ann.get_by_role("link", name="Sharing", exact=True).click()
    await ann.get_by_role("link", name="Connected now").click()
    await ann.get_by_role("button", name=f"Cut Bob Rossi off {name}").click()
    await connection.until_closed(20)
    connection.writer.close()
    await ann.get_by_role("link", name="Devices").click()


async def taken_back(ann: Page, bob: Page, name: str, audit: Audit) -> None:
    """Ann revokes; Bob, who looks at the device, sees it go."""
    await ann.get_by_role("link", name=name, exact=True).click()
    await ann.get_by_role("button", name=f"Actions for {name} with {BOB}").click()
    await ann.get_by_role("menuitem", name="Revoke").click()
    await expect(ann.get_by_role("button", name=f"Actions for {name} with {BOB}")).to_have_count(0)
    await expect(bob.get_by_role("heading", name=name)).to_have_count(0)  # gone while he looks at it
    await expect(ann.get_by_role("region", name="History")).to_contain_text("Ended by the owner")
    await audit(ann, "a device of mine, with its history")


async def test_a_reload_in_the_middle_of_a_bulk_loses_and_doubles_nothing(
    world: World, person: Person
) -> None:
    name = f"Kiln {uuid4().hex[:6]}"
    device = await named_device(world, name)
    ann = await person("ann")
    dialog = await open_bulk(ann, name)
    await pick(ann, BOB)
    sent: list[str] = []

    async def lose_the_answer(route: Route) -> None:
        body = route.request.post_data or ""
        if "shareBulk" not in body:
            await route.continue_()
            return
        sent.append(body)
        await route.fetch()
        await route.abort()

    await ann.route("**/graphql/v1", lose_the_answer)
    await dialog.get_by_role("button", name="Add Sharing").click()
    await expect(ann.get_by_text("The server does not answer")).to_be_visible()
    await ann.unroute("**/graphql/v1")
    await ann.reload()
    confirmation = ann.get_by_role("dialog", name="Sharing Confirmation")
    await expect(confirmation.get_by_text("1 share done")).to_be_visible()
    await expect(confirmation.get_by_role("row").last).to_contain_text("Invited")
    await confirmation.get_by_role("button", name="Close").last.click()
    await ann.reload()
    await expect(ann.get_by_role("heading", level=1, name="Devices")).to_be_visible()
    await expect(confirmation).to_have_count(0)
    assert sent
    history = "query($d: String!) { login { deviceHistory(deviceId: $d) { items { kind } } } }"
    account = await world.account(seed.OWNER_EMAIL)
    events = (await account.ask(history, d=device))["login"]["deviceHistory"]["items"]
    assert [event["kind"] for event in events] == ["ShareRequested"]


async def test_what_failed_is_told_and_tried_again(world: World, person: Person, audit: Audit) -> None:
    names = [f"Lathe {uuid4().hex[:6]}", f"Press {uuid4().hex[:6]}"]
    (_, gone) = [await named_device(world, name) for name in names]
    ann = await person("ann")
    dialog = await open_bulk(ann, *names)
    await ann.get_by_role("button", name="Pick…").click()
    picker = ann.get_by_role("dialog", name="Contact Picker")
    await picker.get_by_label("Search contacts").fill(f"wrong@, {seed.OWNER_EMAIL}")
    await picker.get_by_label("Search contacts").press("Enter")
    await expect(picker.get_by_role("alert")).to_contain_text("wrong@: This is not an e-mail address.")
    await expect(picker.get_by_role("alert")).to_contain_text("This is you.")
    await audit(ann, "the Contact Picker with refusals")
    await picker.get_by_role("button", name="Cancel").click()
    await pick(ann, "cat@example.test")
    await expect(dialog.get_by_label("What will happen")).to_contain_text("is invited to 2 devices")
    await world.producer.send("directory.devices", gone, None)
    await expect(row(ann, names[1])).to_have_count(0)
    await expect_not_shareable(world, gone)
    await dialog.get_by_role("button", name="Add Sharing").click()
    confirmation = ann.get_by_role("dialog", name="Sharing Confirmation")
    await expect(confirmation.get_by_text("1 of 2 done, 1 failed.")).to_be_visible()
    refused = confirmation.get_by_role("row").filter(has_text=names[1])
    await expect(refused).to_contain_text("This device is not among yours any more.")
    await audit(ann, "a confirmation with a refusal")
    await confirmation.get_by_role("button", name="Retry 1 that failed").click()
    await expect(confirmation.get_by_text("1 of 2 done, 1 failed.")).to_be_visible()
    await expect(confirmation.get_by_role("row")).to_have_count(3)


async def expect_not_shareable(world: World, device: str) -> None:
    """The deciding side has heard that the device is gone."""
    owner = await world.account(seed.OWNER_EMAIL)

    async def refused() -> bool:
        try:
            await owner.share(device, "nobody@example.test", action="REMOVE")
        except RefusedError:
            return True
        return False

    await until(refused, 40)


async def tab_to(locator: Locator, most: int = 120) -> None:
    """Come there by the keyboard."""
    for _ in range(most):
        if await locator.evaluate("(it) => it === document.activeElement"):
            return
        await locator.page.keyboard.press("Tab")
    raise AssertionError(f"the keyboard does not reach {locator}")


async def test_the_keyboard_alone_shares_and_gives_back(world: World, person: Person) -> None:
    name = f"Crane {uuid4().hex[:6]}"
    await named_device(world, name)
    ann = await person("ann")
    keys = ann.keyboard

    await tab_to(ann.get_by_label("Search devices"))
    await keys.type(name)
    await tab_to(ann.get_by_label(f"Select {name}"))
    await keys.press("Space")
    await keys.press("Shift+Tab")
    await keys.press("Enter")  # the button before the list: Actions
    await expect(ann.get_by_role("menuitem", name="Share…")).to_be_focused()
    await keys.press("Enter")
    dialog = ann.get_by_role("dialog").last
    await tab_to(dialog.get_by_role("button", name="Pick…"))
    await keys.press("Enter")
    picker = ann.get_by_role("dialog", name="Contact Picker")
    await tab_to(picker.get_by_label("Search contacts"))
    await keys.type(BOB)
    await expect(picker.get_by_role("checkbox", name=BOB).or_(picker.get_by_text("Add bob"))).to_be_visible()
    await keys.press("Enter")
    await expect(picker.get_by_role("checkbox", name=BOB)).to_be_checked()
    await tab_to(picker.get_by_role("button", name="Choose Contacts"))
    await keys.press("Enter")
    await expect(dialog.get_by_role("button", name="Pick…")).to_be_focused()
    await tab_to(dialog.get_by_role("button", name="Add Sharing"))
    await keys.press("Enter")
    confirmation = ann.get_by_role("dialog", name="Sharing Confirmation")
    await expect(confirmation.get_by_text("1 share done")).to_be_visible()
    await keys.press("Escape")
    await expect(confirmation).to_have_count(0)

    await accepted_and_given_back_by_keys(await person("bob", "/inbox"), name)


async def accepted_and_given_back_by_keys(bob: Page, name: str) -> None:
    """Bob has a keyboard only, too."""
    accept = bob.get_by_role("button", name=f"Accept {name}")
    await expect(accept).to_be_visible()
    await tab_to(accept)
    await bob.keyboard.press("Enter")
    await expect(accept).to_have_count(0)
    await tab_to(bob.get_by_role("link", name="Devices"))
    await bob.keyboard.press("Enter")
    await tab_to(bob.get_by_label("Search devices"))
    await bob.keyboard.type(name)
    link = bob.get_by_role("link", name=name, exact=True)
    await expect(link).to_be_visible()
    await tab_to(row(bob, name).get_by_role("link").last)  # the Share icon, which tells who
    await expect(row(bob, name).locator(".tip")).to_be_visible()
    await bob.keyboard.press("Escape")  # WCAG 1.4.13: and can be sent away
    await expect(row(bob, name).locator(".tip")).to_be_hidden()
    await tab_to(link)
    await bob.keyboard.press("Enter")
    await tab_to(bob.get_by_role("button", name="Give back…"))
    await bob.keyboard.press("Enter")
    await tab_to(bob.get_by_role("dialog").get_by_role("button", name="Give back", exact=True))
    await bob.keyboard.press("Enter")
    await expect(bob.get_by_role("heading", level=1, name="Devices")).to_be_visible()
    await expect(link).to_have_count(0)


async def test_the_command_that_is_shown_reaches_the_service(
    world: World, person: Person, audit: Audit
) -> None:
    if shutil.which("curl") is None:
        pytest.skip("there is no curl on this machine")
    ann = await person("ann", f"/devices/{seed.WORKSHOP_PC}", width=390)
    await ann.get_by_role("button", name="Connect", exact=True).click()
    way_in = ann.get_by_role("dialog", name="Connect to")
    await way_in.get_by_label("Status page").check()
    await way_in.get_by_label("proxy").check()
    await audit(ann, "the proxy as a way in, on a phone")
    await way_in.get_by_role("button", name="Copy curl").click()
    await expect(way_in.get_by_text("Copied")).to_be_attached()
    command = await ann.evaluate("navigator.clipboard.readText()")
    shell = await asyncio.create_subprocess_shell(
        f"{command} -sS --max-time 20",
        env={**os.environ, "LATCHKEY_TOKEN": await world.token(seed.OWNER_EMAIL)},
        stdout=asyncio.subprocess.PIPE,
    )
    said, _ = await shell.communicate()
    assert shell.returncode == 0
    assert b"<html" in said.lower()
