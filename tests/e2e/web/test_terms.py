"""Every field of the sharing dialog reaches who is invited; and devices are found in the list."""

from uuid import uuid4

import pytest
from playwright.async_api import Page, expect
from walking import BOB, Person, named_device, open_bulk, pick, recorder, row

from devstack import seed
from devstack.world import World

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

GIVEN = "query($d: String!) { login { shares(deviceId: $d) { address } } }"


async def test_each_device_has_its_own_permissions_and_all_have_the_period(
    world: World, person: Person
) -> None:
    (camera, recorder_name), computer = await recorder(world), f"Kiosk {uuid4().hex[:6]}"
    device = await named_device(world, computer)
    ann, bob = await person("ann"), await person("bob", "/inbox", width=390)
    await ann.get_by_label("Search devices").fill(recorder_name)
    await ann.get_by_label(f"Select {recorder_name}", exact=True).check()
    await ann.get_by_label("Search devices").fill(computer)  # what is ticked stays so, out of sight
    bulk = await open_bulk(ann, computer)
    await expect(bulk.get_by_role("heading", name="Bulk Sharing")).to_be_visible()
    phone = "+4915112345678"
    await pick(ann, BOB, phone)  # a list, with a telephone number in it
    await bulk.get_by_label("Set services and permissions for each device").check()
    own = bulk.get_by_role("group").filter(has=ann.get_by_text(recorder_name, exact=True)).first
    await own.get_by_label("Only these cameras").check()
    await own.get_by_label("Gate").uncheck()
    await own.get_by_label("All Permissions").uncheck()
    for unwanted in ("Playback", "Two-way audio", "Move the camera", "Alarm notifications"):
        await own.get_by_label(unwanted).uncheck()
    await bulk.get_by_label("Allow running scripts").check()
    await bulk.get_by_label("Start").fill("2035-01-10T08:00")
    await bulk.get_by_role("button", name="For 1 week").click()
    await expect(bulk.get_by_role("textbox", name="End")).to_have_value("2035-01-17T08:00")
    await bulk.get_by_label("Send a notice").uncheck()
    await bulk.get_by_role("button", name="Add Sharing").click()
    confirmation = ann.get_by_role("dialog", name="Sharing Confirmation")
    await expect(confirmation.get_by_text("4 shares done")).to_be_visible()
    await confirmation.get_by_role("button", name="Close").last.click()

    cards = bob.get_by_role("listitem")
    of_camera = cards.filter(has=bob.get_by_role("heading", name=recorder_name))
    of_computer = cards.filter(has=bob.get_by_role("heading", name=computer))
    await expect(of_camera).to_contain_text("Yard · live view")
    await expect(of_camera).not_to_contain_text("Gate")
    await expect(of_computer).to_contain_text("Every service of this device")
    for each in (of_camera, of_computer):
        await expect(each).to_contain_text("May run scripts")
        await expect(each).to_contain_text("From 10 Jan 2035, 08:00 until 17 Jan 2035, 08:00")
    owner = await world.account(seed.OWNER_EMAIL)
    for shared in (camera, device):
        given = (await owner.ask(GIVEN, d=shared))["login"]["shares"]
        assert {share["address"].replace(" ", "") for share in given} == {phone, BOB}
    await expect(row(ann, computer).get_by_role("link").last).to_have_attribute("data-state", "out")
    assert await world.mails(BOB, computer) == []  # what was not wanted does not come


async def test_devices_are_searched_filtered_and_sorted(world: World, person: Person) -> None:
    batch = uuid4().hex[:6]
    names = [f"{letter} {batch}" for letter in ("Bellows", "Anvil 10", "Anvil 9")]
    devices = [await named_device(world, name) for name in names]
    await world.shared(devices[0])
    ann = await person("ann")
    search = ann.get_by_label("Search devices")
    show, order = (ann.get_by_role("combobox", name=name) for name in ("Show", "Order"))

    async def listed(page: Page, *expected: str) -> None:
        await expect(page.locator(".device-name")).to_have_text(list(expected))

    await search.fill(batch.upper())
    await listed(ann, "Anvil 9 " + batch, "Anvil 10 " + batch, "Bellows " + batch)
    await order.select_option("Newest first")
    await listed(ann, *reversed(names))
    await show.select_option("Shared by me")
    await listed(ann, names[0])
    await show.select_option("Not shared")
    await order.select_option("By name")
    await listed(ann, "Anvil 9 " + batch, "Anvil 10 " + batch)
    await show.select_option("Shared with me")
    await expect(ann.get_by_text("No device matches")).to_be_visible()
    await show.select_option("All devices")
    await search.fill(f"bob@ {batch}")  # who has it is searched too
    await listed(ann, names[0])
    await ann.get_by_label("Select all").check()
    await expect(ann.get_by_text("1 device selected")).to_be_visible()
