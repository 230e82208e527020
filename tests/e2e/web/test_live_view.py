"""A camera's live picture in the page, and the places from which a device is shared (requirement H3)."""

import pytest
from playwright.async_api import Page, expect
from walking import BOB, Audit, Person, recorder

from devstack import seed
from devstack.world import World, until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

# How bright the picture is along its middle, a few times a second: what moves is alive.
SEEN = """async () => {
  const canvas = document.querySelector('.screen canvas');
  const {width, height} = canvas;
  const points = canvas.getContext('2d').getImageData(0, height >> 1, width, 1).data;
  return [width, height, [...points].filter((_, at) => at % 4 === 0).join()];
}"""
CHANGE = """
mutation($device: String!, $share: String!, $version: Int!, $terms: TermsInput!) {
  changeShare(deviceId: $device, shareId: $share, expectedVersion: $version, terms: $terms)
}
"""
SHARES = "query($device: String!) { login { shares(deviceId: $device) { id version } } }"


async def moves(page: Page) -> bool:
    """The picture is one, and another a moment later."""
    await expect(page.locator(".screen")).to_have_attribute("data-state", "playing")
    width, height, before = await page.evaluate(SEEN)
    assert (width, height) != (640, 360), "the picture has a size of its own"

    async def differs() -> bool:
        _, _, now = await page.evaluate(SEEN)
        return now != before and len(set(now.split(","))) > 1

    return await until(differs)


async def test_a_camera_is_watched_shared_from_there_and_gone_when_it_is_taken_back(
    world: World, person: Person, audit: Audit
) -> None:
    device, name = await recorder(world)
    ann = await person("ann")
    await ann.get_by_label("Search devices").fill(name)
    await ann.get_by_role("button", name=f"Live view of {name}").click()
    window = ann.get_by_role("dialog", name=f"Live: {name}")
    assert await moves(ann)
    await window.get_by_label("Camera").select_option("Yard")
    await expect(window.get_by_role("img", name="Live picture of Yard")).to_be_visible()
    assert await moves(ann)
    await audit(ann, "the live view")

    await window.get_by_role("button", name="Share…").click()  # H3, from the live view
    dialog = ann.get_by_role("dialog", name=f"Share {name}")
    await dialog.get_by_role("button", name="Pick…").click()
    picker = ann.get_by_role("dialog", name="Contact Picker")
    await picker.get_by_label("Search contacts").fill(BOB)
    await picker.get_by_label("Search contacts").press("Enter")
    await expect(picker.get_by_role("checkbox", name=BOB)).to_be_checked()
    await picker.get_by_role("button", name="Choose Contacts").click()
    await dialog.get_by_label("Only these cameras").check()
    await dialog.get_by_label("Yard").uncheck()
    await dialog.get_by_role("button", name="Add Sharing").click()
    confirmation = ann.get_by_role("dialog", name="Sharing Confirmation")
    await expect(confirmation.get_by_text("1 share done")).to_be_visible()
    await confirmation.get_by_role("button", name="Close").last.click()
    await expect(window).to_be_visible()

    recipient = await world.account(BOB)
    await recipient.accept(device)
    bob = await person("bob", f"/devices/{device}", width=390, scheme="dark")
    await bob.get_by_role("button", name="Live view").click()
    assert await moves(bob)
    await expect(bob.get_by_label("Camera", exact=True)).to_have_count(0)  # there is one only
    await expect(bob.get_by_role("button", name="Share…")).to_have_count(0)
    await audit(bob, "the live view on a phone, dark")

    owner = await world.account(seed.OWNER_EMAIL)
    (share,) = (await owner.ask(SHARES, device=device))["login"]["shares"]
    terms = {"services": [{"serviceId": f"{device}.1", "permissions": ["PLAYBACK"]}]}
    await owner.ask(CHANGE, device=device, share=share["id"], version=share["version"], terms=terms)
    await expect(bob.get_by_text("You may not see this camera, or not any more.")).to_be_visible()
    await bob.get_by_role("button", name="Try again").click()
    await expect(bob.get_by_text("You may not see this camera, or not any more.")).to_be_visible()
    await bob.get_by_role("button", name="Close").last.click()
    await expect(bob.get_by_role("button", name="Live view")).to_have_count(0)  # H2: no control either


async def test_a_security_panel_is_shared_from_its_page(person: Person, audit: Audit) -> None:
    ann = await person("ann", f"/devices/{seed.ALARM_PANEL}", width=390)
    await ann.get_by_role("button", name="Share…").click()  # H3, from the panel's details
    dialog = ann.get_by_role("dialog").filter(has=ann.get_by_label("All Permissions"))
    await dialog.get_by_label("All Permissions").uncheck()
    await expect(dialog.get_by_label("Arm and disarm")).to_be_checked()
    await audit(ann, "sharing a security panel, on a phone")


@pytest.mark.parametrize("place", ["the list", "the device's page"])
async def test_a_revoke_stops_the_picture_and_says_why(
    world: World, person: Person, audit: Audit, place: str
) -> None:
    device, name = await recorder(world)
    owner, _ = await world.shared(device)
    bob = await person("bob", "/" if place == "the list" else f"/devices/{device}")
    if place == "the list":
        await bob.get_by_label("Search devices").fill(name)
        await bob.get_by_role("button", name=f"Live view of {name}").click()
    else:
        await bob.get_by_role("button", name="Live view", exact=True).click()
    window = bob.get_by_role("dialog", name=f"Live: {name}")
    assert await moves(bob)
    await owner.share(device, BOB, action="REMOVE", notify=False)
    told = window.get_by_text("You may not see this camera, or not any more.")
    await expect(told).to_be_visible()  # whatever becomes of the page below
    await expect(bob.locator(".screen")).to_have_attribute("data-state", "ended")
    _, _, left = await bob.evaluate(SEEN)
    assert set(left.split(",")) == {"0"}  # nor does the last picture stay
    await audit(bob, f"a live view that has ended, from {place}")
    await window.get_by_role("button", name="Close").last.click()
    await expect(bob.get_by_role("link", name=name, exact=True)).to_have_count(0)
    if place != "the list":
        await expect(bob.get_by_role("heading", level=1)).to_have_text("This device is not among yours")
        await audit(bob, "a device that is not mine any more")


async def test_who_is_cut_off_a_picture_by_hand_is_told_so_and_may_look_again(
    world: World, person: Person
) -> None:
    device, name = await recorder(world)
    await world.shared(device)
    bob, ann = await person("bob", f"/devices/{device}", width=390), await person("ann", "/sharing/connected")
    await bob.get_by_role("button", name="Live view", exact=True).click()
    assert await moves(bob)
    await ann.get_by_role("button", name=f"Cut Bob Rossi off {name}").click()
    await expect(bob.get_by_text("This connection was cut by hand.")).to_be_visible()
    await bob.get_by_role("button", name="Try again").click()
    assert await moves(bob)
