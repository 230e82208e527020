"""The walk of camera sharing (requirements H1 to H12): permissions, cameras of a recorder, QR code, inbox."""

import base64
import re
from pathlib import Path
from uuid import uuid4

import pytest
from playwright.async_api import Browser, Page, async_playwright, expect
from walking import BOB, Audit, Person, recorder, share_dialog

from devstack import seed
from devstack.world import World

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

WIDTH, HEIGHT = 640, 480
# A telephone that shows the code, before a grey wall: one byte of brightness for each point.
HELD = """async ([address, width, height]) => {
  const drawing = new Image();
  drawing.src = address;
  await drawing.decode();
  const canvas = Object.assign(document.createElement('canvas'), {width, height});
  const context = canvas.getContext('2d');
  context.fillStyle = '#888';
  context.fillRect(0, 0, width, height);
  context.fillStyle = '#fff';
  context.fillRect(110, 30, 420, 420);
  context.drawImage(drawing, 120, 40, 400, 400);
  const points = context.getImageData(0, 0, width, height).data;
  let text = '';
  for (let at = 0; at < points.length; at += 4) text += String.fromCharCode(points[at]);
  return btoa(text);
}"""


async def test_cameras_are_shared_with_exact_permissions_and_the_recipient_deleted(
    world: World, person: Person, audit: Audit
) -> None:
    _, name = await recorder(world)
    ann = await person("ann", width=390)
    dialog = await share_dialog(ann, name)  # H1
    await dialog.get_by_role("button", name="Pick…").click()
    picker = ann.get_by_role("dialog", name="Contact Picker")
    await picker.get_by_label("Search contacts").fill(BOB)  # H4, H5
    await picker.get_by_label("Search contacts").press("Enter")
    await expect(picker.get_by_role("checkbox", name=BOB)).to_be_checked()
    await audit(ann, "the Contact Picker on a phone")
    await picker.get_by_role("button", name="Choose Contacts").click()
    await dialog.get_by_label("Only these cameras").check()  # H9
    await dialog.get_by_label("Yard").uncheck()
    await expect(dialog.get_by_label("All Permissions")).to_be_checked()  # H10
    await dialog.get_by_label("All Permissions").uncheck()
    await dialog.get_by_label("Two-way audio").uncheck()  # H2
    await dialog.get_by_label("Remark for yourself").fill("The tall one")  # H6
    preview = dialog.get_by_label("What will happen")
    await expect(preview).to_contain_text("live view, playback, move the camera and alarm notifications")
    await audit(ann, "the sharing dialog of a recorder on a phone")
    await dialog.get_by_role("button", name="Add Sharing").click()
    confirmation = ann.get_by_role("dialog", name="Sharing Confirmation")
    await expect(confirmation.get_by_text("1 share done")).to_be_visible()
    await confirmation.get_by_role("button", name="Close").last.click()

    bob = await person("bob", "/inbox")
    await put_off_and_accepted(bob, name)
    await exact_and_named_anew(bob, name)
    await deleted(ann, name, audit)
    await expect(bob.get_by_text("This device is not among yours")).to_be_visible()
    book = (await (await world.account(seed.OWNER_EMAIL)).ask("{ login { contacts { email } } }"))["login"]
    assert BOB not in [contact["email"] for contact in book["contacts"]]


async def put_off_and_accepted(bob: Page, name: str) -> None:
    """The invitation tells the terms and no remark; it can wait."""
    card = bob.get_by_role("listitem").filter(has=bob.get_by_role("heading", name=name))  # H11
    await expect(card).to_contain_text("Gate · live view, playback, move the camera and alarm notifications")
    await expect(card).not_to_contain_text("Yard")
    assert "tall one" not in await bob.content()
    await card.get_by_role("button", name="Decide later").click()
    later = bob.get_by_role("list", name="Put off").get_by_role("listitem").filter(has_text=name)
    await expect(later).to_be_visible()
    await bob.reload()
    await later.get_by_role("button", name="Accept").click()
    await expect(later).to_have_count(0)


async def exact_and_named_anew(bob: Page, name: str) -> None:
    """What was not granted is not there; a name of Bob's own is his alone."""
    await bob.get_by_role("link", name="Devices").click()
    await bob.get_by_label("Search devices").fill(name)
    await bob.get_by_role("link", name=name, exact=True).click()
    services = bob.locator("section").filter(has=bob.get_by_role("heading", name="Services"))
    await expect(services).to_contain_text("You may: live view, playback, move the camera")
    await expect(services).not_to_contain_text("two-way audio")  # H2
    await bob.get_by_role("button", name="Connect").click()
    way_in = bob.get_by_role("dialog", name="Connect to")
    await way_in.get_by_role("button", name="Connect", exact=True).click()
    await expect(way_in.get_by_text(re.compile(r"^rtsp://\S+:\S+@"))).to_be_visible()
    await way_in.get_by_role("button", name="Close").last.click()
    await bob.get_by_role("button", name="Give it a name of your own").click()
    await bob.get_by_label("What you call").fill("Holiday house")
    await bob.get_by_role("button", name="Save").click()
    await expect(bob.get_by_role("heading", name="Holiday house")).to_be_visible()


async def deleted(ann: Page, name: str, audit: Audit) -> None:
    """Ann deletes Bob, having read what ends."""
    await ann.get_by_role("link", name="Sharing").click()  # H12
    someone = ann.get_by_role("list", name="People").get_by_role("listitem").filter(has_text="Bob Rossi")
    await expect(someone.get_by_label("Remark")).to_have_value("The tall one")
    await audit(ann, "Manage Sharing on a phone")
    if await someone.locator("details").get_attribute("open") is None:
        await someone.locator("summary").click()
    await someone.get_by_role("button", name="Delete recipient…").click()
    sure = ann.get_by_role("dialog", name="Delete Bob Rossi?")
    await expect(sure.get_by_text(name)).to_be_visible()
    await audit(ann, "what deleting a recipient ends")
    await sure.get_by_role("button", name="Delete with all sharing").click()
    await expect(sure).to_have_count(0)


async def test_terms_are_edited_and_an_invitation_is_cancelled(
    world: World, person: Person, audit: Audit
) -> None:
    device, name = await recorder(world)
    owner = await world.account(seed.OWNER_EMAIL)
    await owner.share(device, "dan@example.test", notify=False)
    ann, dan = await person("ann", f"/devices/{device}"), await person("dan", "/inbox", width=390)
    card = dan.get_by_role("listitem").filter(has=dan.get_by_role("heading", name=name))
    await expect(card).to_contain_text("Every service of this device")
    actions = ann.get_by_role("button", name=f"Actions for {name} with dan@example.test")
    await actions.click()
    await ann.get_by_role("menuitem", name="Edit…").click()
    editor = ann.get_by_role("dialog", name=f"Edit {name} with dan@example.test")
    await editor.get_by_label("Only these cameras").check()
    await editor.get_by_label("Gate").uncheck()
    await editor.get_by_role("button", name="For 1 day").click()
    await audit(ann, "editing a share")
    await editor.get_by_role("button", name="Save").click()
    await expect(editor).to_have_count(0)
    await expect(card).to_contain_text(re.compile(r"Yard · all permissions\s*Until"))
    await expect(card).not_to_contain_text("Gate")
    await actions.click()
    await ann.get_by_role("menuitem", name="Cancel invitation").click()
    await expect(card).to_have_count(0)
    await expect(actions).to_have_count(0)


async def test_a_code_before_the_camera_adds_whom_it_shows(
    world: World, person: Person, chromium: str, tmp_path: Path, audit: Audit
) -> None:
    cat = await person("cat", "/account", width=390)
    await audit(cat, "the account page on a phone")
    await cat.get_by_role("button", name="My QR Code").click()  # H8
    code = cat.get_by_role("img", name="QR code of Cat Ngo")
    await expect(code).to_be_visible()
    assert "example.test" not in (await code.get_attribute("data-code") or "example.test")
    await audit(cat, "my QR code on a phone")
    grey = base64.b64decode(await cat.evaluate(HELD, [await code.get_attribute("src"), WIDTH, HEIGHT]))
    film = tmp_path / "qr.y4m"
    with film.open("wb") as file:
        file.write(b"YUV4MPEG2 W%d H%d F10:1 Ip A1:1 C420\n" % (WIDTH, HEIGHT))
        file.write(b"FRAME\n" + grey + bytes([128]) * (WIDTH * HEIGHT // 2))
    switches = [
        "--use-fake-ui-for-media-stream",
        "--use-fake-device-for-media-stream",
        f"--use-file-for-fake-video-capture={film}",
    ]
    async with async_playwright() as playwright:
        filming: Browser = await playwright.chromium.launch(executable_path=chromium, args=switches)
        try:
            dan = await person("dan", launched=filming)
            device = await world.device(owner="dan", device_id=f"d-{uuid4().hex[:10]}")
            await dan.get_by_label("Search devices").fill(device)
            await dan.get_by_role("link", name=f"Device {device}").click()
            await dan.get_by_role("button", name="Share…").click()
            await dan.get_by_role("button", name="Pick…").click()
            picker = dan.get_by_role("dialog", name="Contact Picker")
            await picker.get_by_role("button", name="Scan a code").click()
            await expect(picker.get_by_role("checkbox", name="Cat Ngo")).to_be_checked()
            await audit(dan, "the Contact Picker after a scan")
        finally:
            await filming.close()


async def test_history_can_be_taken_along_and_keys_are_shown_once(
    world: World, person: Person, audit: Audit
) -> None:
    device, name = await recorder(world)
    owner = await world.account(seed.OWNER_EMAIL)
    await owner.share(device, BOB, notify=False)
    ann = await person("ann", f"/devices/{device}", scheme="dark")
    await expect(ann.get_by_role("region", name="History")).to_contain_text("Invited")
    async with ann.expect_download() as download:
        await ann.get_by_role("link", name="Download as CSV").click()
    text = (await (await download.value).path()).read_text()
    assert "ShareRequested" in text
    await ann.get_by_role("button", name="Rename").click()
    await ann.get_by_role("textbox", name="Name").fill(f"{name} by the gate")
    await audit(ann, "the naming dialog, dark")
    await ann.get_by_role("button", name="Cancel").click()

    await ann.get_by_role("link", name="Account").click()
    await ann.get_by_role("button", name="New key").click()
    made = ann.get_by_role("dialog", name="Your new access key")
    await expect(made.get_by_text("Secret", exact=True)).to_be_visible()
    await audit(ann, "a new access key, dark")
    await made.get_by_role("button", name="I have kept the secret").click()
    await ann.get_by_role("button", name=re.compile("^Delete ")).first.click()
    await ann.get_by_role("dialog").get_by_role("button", name="Delete", exact=True).click()
    await expect(ann.get_by_role("button", name=re.compile("^Delete "))).to_have_count(0)
    for page in ("/sharing/devices", "/sharing/connected", "/account"):
        await ann.goto(page)
        await expect(ann.get_by_role("heading", level=1)).to_be_visible()
        await audit(ann, f"{page}, dark")


async def test_the_owner_renames_his_device(world: World, person: Person) -> None:
    ann = await person("ann", f"/devices/{seed.ALARM_PANEL}")
    name = f"Alarm {uuid4().hex[:6]}"
    await ann.get_by_role("button", name="Rename").click()
    await ann.get_by_role("textbox", name="Name").fill(name)
    await ann.get_by_role("button", name="Save").click()
    await expect(ann.get_by_role("heading", name=name)).to_be_visible()
