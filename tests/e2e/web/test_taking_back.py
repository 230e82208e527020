"""After sharing: invitations sent again, shares given back and renewed; and dialogs that ask first."""

import re
from uuid import uuid4

import pytest
from playwright.async_api import Locator, Page, expect
from walking import BOB, Audit, Person, named_device, pick, recorder, row, share_dialog

from contracts.directory import AccountSnapshot
from devstack import seed
from devstack.world import World, until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

# A camera before a wall: something to look at, and no code in it.
WALL = """
navigator.mediaDevices.getUserMedia = async () => {
  const canvas = Object.assign(document.createElement('canvas'), {width: 320, height: 240});
  const context = canvas.getContext('2d');
  const paint = () => {
    context.fillStyle = '#888';
    context.fillRect(0, 0, 320, 240);
    requestAnimationFrame(paint);
  };
  paint();
  return canvas.captureStream(10);
};
"""


SHARE = """
mutation($d: String!, $e: [String!]!, $s: [ServiceSharingOptions!]) {
  share(deviceId: $d, email: $e, services: $s, notify: false)
}
"""


def line(page: Page, name: str, person: str) -> Locator:
    """What can be done with a share."""
    return page.get_by_role("button", name=f"Actions for {name} with {person}")


async def test_an_invitation_is_sent_again_once_a_minute(
    world: World, person: Person, invited_before: tuple[str, str]
) -> None:
    device, name = invited_before
    ann = await person("ann", f"/devices/{device}")
    await line(ann, name, "cat@example.test").click()
    await ann.get_by_role("menuitem", name="Send again").click()
    sent = ann.get_by_role("status").filter(has_text="Invited again")
    soon = ann.get_by_role("alert")
    await expect(sent.or_(soon)).to_be_visible()
    if await soon.count():  # this test came first, and the minute is not over

        async def again() -> bool:
            await line(ann, name, "cat@example.test").click()
            await ann.get_by_role("menuitem", name="Send again").click()
            await expect(sent.or_(soon)).to_be_visible()
            return await sent.count() > 0

        await until(again, 80)
    history = ann.get_by_role("region", name="History")
    await expect(history).to_contain_text("Invited again")
    await line(ann, name, "cat@example.test").click()
    await ann.get_by_role("menuitem", name="Send again").click()
    await expect(soon).to_contain_text(re.compile("minute|wait", re.IGNORECASE))
    assert len(await world.mails("cat@example.test", name)) >= 1


async def test_a_device_is_given_back_and_shared_anew(world: World, person: Person, audit: Audit) -> None:
    name = f"Plough {uuid4().hex[:6]}"
    device = await named_device(world, name)
    await world.shared(device)
    ann, bob = await person("ann", "/sharing"), await person("bob", width=390, scheme="dark")
    await row(bob, name).get_by_role("link", name=name).click()
    await bob.get_by_role("button", name="Give back…").click()
    sure = bob.get_by_role("dialog", name="Give this device back?")
    await expect(sure).to_contain_text("from Ann Keller")
    await audit(bob, "giving back, on a phone, dark")
    await sure.get_by_role("button", name="Give back").click()
    await expect(bob.get_by_role("heading", level=1, name="Devices")).to_be_visible()
    await expect(row(bob, name)).to_have_count(0)

    someone = (
        ann.get_by_role("list", name="People").get_by_role("listitem").filter(has_text="Bob Rossi").first
    )
    if await someone.locator("details").get_attribute("open") is None:
        await someone.locator("summary").click()
    ended = someone.get_by_role("listitem").filter(has_text=name)
    await expect(ended).to_contain_text("Given back")  # live, without a reload
    await ended.get_by_role("button", name=f"Renew {name}").click()
    dialog = ann.get_by_role("dialog", name=f"Share {name}")
    await expect(dialog.get_by_role("list", name="With")).to_contain_text(BOB)
    await audit(ann, "renewing a share")
    await dialog.get_by_role("button", name="Add Sharing").click()
    confirmation = ann.get_by_role("dialog", name="Sharing Confirmation")
    await expect(confirmation.get_by_role("row").last).to_contain_text("Invited")
    await confirmation.get_by_role("button", name="Close").last.click()
    await bob.get_by_role("link", name="Inbox").click()
    card = bob.get_by_role("listitem").filter(has=bob.get_by_role("heading", name=name))
    await card.get_by_role("button", name="Reject").click()
    await expect(card).to_have_count(0)


async def test_what_came_by_telephone_number_is_accepted_and_given_back(world: World, person: Person) -> None:
    number = "+4915123456789"
    account = AccountSnapshot(
        account_id="dan", name="Dan Okafor", verified_emails=("dan@example.test",), verified_phones=(number,)
    )
    await world.add_account(account)
    name = f"Barge {uuid4().hex[:6]}"
    await named_device(world, name)
    ann, dan = await person("ann"), await person("dan", "/inbox", width=390)
    dialog = await share_dialog(ann, name)
    await pick(ann, number)  # H4
    await dialog.get_by_role("button", name="Add Sharing").click()
    await expect(ann.get_by_role("dialog").get_by_text("1 share done")).to_be_visible()
    await dan.get_by_role("button", name=f"Accept {name}").click()
    await dan.get_by_role("link", name="Devices").click()
    await dan.get_by_role("link", name=name, exact=True).click()
    await dan.get_by_role("button", name="Give back…").click()
    sure = dan.get_by_role("dialog", name="Give this device back?")
    await sure.get_by_role("button", name="Give back").click()
    await expect(sure).to_have_count(0)
    await expect(dan.get_by_role("link", name=name, exact=True)).to_have_count(0)


async def test_what_was_entered_is_not_lost_by_escape_and_people_are_remembered(
    world: World, person: Person, audit: Audit
) -> None:
    name, address = f"Saw {uuid4().hex[:6]}", f"new-{uuid4().hex[:8]}@example.test"
    await named_device(world, name)
    ann = await person("ann")
    dialog = await share_dialog(ann, name)
    await ann.keyboard.press("Escape")
    await expect(dialog).to_have_count(0)  # nothing was entered: nothing is asked
    await ann.get_by_role("button", name="Share…").click()
    await pick(ann, address)
    await dialog.get_by_label("Message to who is invited").fill("For the shed.")
    for _ in range(3):  # a browser lets a page keep only so many presses from closing
        await ann.keyboard.press("Escape")
        question = dialog.get_by_role("alertdialog")
        await expect(question).to_contain_text("would be lost")
        await question.get_by_role("button", name="Go on editing").click()
    async with ann.expect_event("dialog") as leaving:  # nor by a reload, or by closing the tab
        await ann.close(run_before_unload=True)
    question_of_the_browser = await leaving.value
    assert question_of_the_browser.type == "beforeunload"
    await question_of_the_browser.dismiss()
    await expect(dialog.get_by_label("Message to who is invited")).to_have_value("For the shed.")
    await dialog.get_by_role("button", name="Close", exact=True).click()
    await audit(ann, "the question before what was entered is lost")
    await dialog.get_by_role("button", name="Discard").click()
    await expect(dialog).to_have_count(0)

    await ann.get_by_role("button", name="Share…").click()  # H7: who was added is offered from then on
    await ann.get_by_role("button", name="Pick…").click()
    picker = ann.get_by_role("dialog", name="Contact Picker")
    await picker.get_by_label("Search contacts").fill(address[:9])
    await expect(picker.get_by_role("checkbox")).to_have_count(1)
    await expect(picker.get_by_role("checkbox", name=address)).to_be_visible()


async def test_rows_tell_what_each_service_gives(world: World, person: Person) -> None:
    device, name = await recorder(world)
    owner = await world.account(seed.OWNER_EMAIL)
    services = [
        {"serviceId": f"{device}.1", "permissions": ["LIVE_VIEW"]},
        {"serviceId": f"{device}.2", "permissions": ["LIVE_VIEW", "PTZ"]},
    ]
    await owner.ask(SHARE, d=device, e=["dan@example.test"], s=services)
    ann = await person("ann", f"/devices/{device}")
    terms = "Gate: live view; Yard: live view and move the camera"
    await expect(ann.get_by_role("listitem").filter(has_text="dan@example.test")).to_contain_text(terms)
    await line(ann, name, "dan@example.test").click()
    await ann.get_by_role("menuitem", name="Edit…").click()
    editor = ann.get_by_role("dialog", name=f"Edit {name} with dan@example.test")
    await expect(editor).to_contain_text(f"differs by service now: {terms}")


async def test_looking_for_a_code_and_deleting_a_key(person: Person, audit: Audit) -> None:
    dan = await person("dan", width=390, scheme="dark")
    await dan.add_init_script(WALL)
    await dan.goto("/account")
    await dan.get_by_role("button", name="New key").click()
    await dan.get_by_role("button", name="I have kept the secret").click()
    await dan.get_by_role("button", name=re.compile("^Delete ")).first.click()
    await audit(dan, "deleting an access key, on a phone, dark")
    await dan.get_by_role("dialog").get_by_role("button", name="Delete", exact=True).click()
    await expect(dan.get_by_role("button", name=re.compile("^Delete "))).to_have_count(0)


async def test_the_scan_dialog_with_a_camera_and_without(world: World, person: Person, audit: Audit) -> None:
    device = await world.device(owner="dan")
    dan = await person("dan", width=390)
    with_camera = await dan.context.new_page()
    await with_camera.add_init_script(WALL)
    for page, has_camera in ((dan, False), (with_camera, True)):
        await page.goto(f"/devices/{device}")
        await page.get_by_role("button", name="Share…").click()
        await page.get_by_role("button", name="Pick…").click()
        await page.get_by_role("button", name="Scan a code").click()
        scan = page.get_by_role("dialog", name="Scan a code")
        if has_camera:
            await expect(scan.get_by_label("What the camera sees")).to_have_js_property("paused", False)
        else:
            await expect(scan.get_by_role("alert")).to_contain_text("There is no camera on this device.")
        await audit(page, f"the scan dialog on a phone, with a camera: {has_camera}")


async def test_pages_that_need_no_script_can_be_used_by_all(
    world: World, person: Person, audit: Audit
) -> None:
    name = f"Mill {uuid4().hex[:6]}"
    device = await named_device(world, name)
    owner = await world.account(seed.OWNER_EMAIL)
    await owner.share(device, BOB)
    (mail,) = await until(lambda: world.mails(BOB, name), 40)
    found = re.search(r"https?://\S+/invitations/\S+", mail["text"])
    assert found is not None
    signed_in, stranger = await person("bob", width=390), await person("cat")
    await stranger.goto("about:blank")  # a page that is open would complain of its session's end
    await stranger.context.clear_cookies()
    bob = await signed_in.context.new_page()  # whose complaints, of pages that are not there, are none

    async def both(page: Page, what: str) -> None:
        await expect(page.get_by_role("heading", level=1)).to_be_visible()
        for scheme in ("light", "dark"):
            await page.emulate_media(color_scheme=scheme)
            await audit(page, f"{what}, {scheme}")

    for page, address, what in (
        (stranger, "/", "the page for who is not signed in"),
        (stranger, found[0], "an invitation for who is not signed in"),
        (bob, found[0], "an invitation"),
        (bob, f"{found[0]}x", "somebody else's invitation"),
        (bob, "/nothing/here", "an error"),
        (bob, "/unsubscribe/nothing", "an unsubscribe link that is none"),
    ):
        await page.goto(address)
        await both(page, what)
    await bob.goto(found[0])
    await bob.get_by_role("button", name="Accept").click()
    await both(bob, "what came of it")
    await bob.goto(found[0])
    await both(bob, "an invitation that was accepted")
