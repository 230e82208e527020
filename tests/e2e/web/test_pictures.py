"""Pictures of every page and dialog for the docs, light and dark: with LATCHKEY_PICTURES=docs/images."""

import asyncio
import os
import re
import shutil
import subprocess
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Literal
from uuid import uuid4

import pytest
from playwright.async_api import Page, expect
from walking import BOB, Person, open_bulk, pick, recorder, row

from contracts.directory import DeviceSnapshot, Service, Target
from devstack import seed
from devstack.client import Account
from devstack.world import World, until

WHERE = os.environ.get("LATCHKEY_PICTURES")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(400),
    pytest.mark.skipif(WHERE is None, reason="pictures are taken when LATCHKEY_PICTURES says where to"),
]

SHOOT = Callable[[Page, str], Awaitable[None]]
FEW_COLOURS = "split[a][b];[a]palettegen[p];[b][p]paletteuse=dither=none"
CAT, DAN = "cat@example.test", "dan@example.test"
KINDS: dict[str, tuple[Literal["computer", "alarm_panel"], str, Literal["tcp", "ssh", "http"]]] = {
    "Office laptop": ("computer", "Remote desktop", "tcp"),
    "Shop till": ("computer", "Terminal", "ssh"),
    "Pump house": ("computer", "Web interface", "http"),
    "Warehouse alarm": ("alarm_panel", "Panel", "tcp"),
}


async def things(world: World) -> dict[str, str]:
    """Devices that have names as in life; name → id."""
    echo = Target(host=world.targets.host, port=world.targets.echo_port)
    made: dict[str, str] = {}
    for name, (kind, service, protocol) in KINDS.items():
        device = made[name] = f"p-{uuid4().hex[:10]}"
        services = (Service(service_id=f"{device}.1", name=service, protocol=protocol, target=echo),)
        await world.add_device(
            DeviceSnapshot(device_id=device, owner_account_id="ann", name=name, kind=kind, services=services)
        )
    made["Yard recorder"], _ = await recorder(world, "Yard recorder", ("Gate", "Loading bay"))
    return made


def kept(picture: Path, where: str) -> None:
    """Put a picture there, with few colours when ffmpeg is at hand: it is a third as large then."""
    folder = Path(where)
    folder.mkdir(parents=True, exist_ok=True)
    if shutil.which("ffmpeg"):
        command = ["ffmpeg", "-v", "error", "-y", "-i", picture, "-vf", FEW_COLOURS, folder / picture.name]
        subprocess.run(command, check=True)
    else:
        shutil.copy(picture, folder)


async def shared(owner: Account, device: str, email: str, message: str) -> None:
    document = """
    mutation($d: String!, $e: [String!]!, $m: String) { share(deviceId: $d, email: $e, message: $m) }
    """
    await owner.ask(document, d=device, e=[email], m=message)


async def test_every_page_light_and_dark(world: World, person: Person, tmp_path: Path) -> None:
    where = WHERE
    assert where is not None

    async def shoot(page: Page, name: str) -> None:
        await page.evaluate("document.fonts.ready")
        await expect(page.locator(".spinner:visible")).to_have_count(0)
        for scheme in ("light", "dark"):
            await page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
            whole = tmp_path / f"{name}-{scheme}.png"
            await page.screenshot(path=whole)
            await asyncio.to_thread(kept, whole, where)
        await page.emulate_media(color_scheme="light", reduced_motion="reduce")

    made = await things(world)
    owner = await world.account(seed.OWNER_EMAIL)
    _, recipient = await world.shared(made["Office laptop"])
    connection = await world.open(recipient, f"{made['Office laptop']}.1")
    await world.shared(made["Yard recorder"], email=CAT)
    await world.shared(made["Yard recorder"])
    await shared(owner, made["Pump house"], BOB, "The pump needs a look while I am away. Thank you!")
    await shared(owner, made["Warehouse alarm"], DAN, "")
    ann = await person("ann")
    await of_the_owner(ann, shoot)
    await of_dialogs(ann, made, shoot)
    connection.writer.close()
    await of_the_recipient(world, await person("bob", "/inbox", width=390), made, shoot)


async def of_the_owner(ann: Page, shoot: SHOOT) -> None:
    await expect(ann.get_by_label("Select Yard recorder")).to_be_visible()
    laptop = row(ann, "Office laptop")
    await laptop.get_by_role("link").last.hover()
    await expect(laptop.locator(".tip")).to_have_css("opacity", "1")
    await shoot(ann, "devices")
    bulk = await open_bulk(ann, "Office laptop", "Shop till", "Yard recorder")
    await ann.get_by_role("button", name="Pick…").click()
    picker = ann.get_by_role("dialog", name="Contact Picker")
    await expect(picker.get_by_role("checkbox").first).to_be_visible()
    await picker.get_by_label("Search contacts").fill(CAT)
    await picker.get_by_label("Search contacts").press("Enter")
    await shoot(ann, "picker")
    await picker.get_by_role("button", name="Cancel").click()
    await pick(ann, CAT, DAN)
    await expect(bulk.get_by_label("What will happen")).to_contain_text("invited")
    await shoot(ann, "bulk")
    await bulk.get_by_role("button", name="Add Sharing").click()
    confirmation = ann.get_by_role("dialog", name="Sharing Confirmation")
    await expect(confirmation.get_by_text(re.compile("shares done"))).to_be_visible()
    await shoot(ann, "confirmation")
    await confirmation.get_by_role("button", name="Close").last.click()


async def of_dialogs(ann: Page, made: dict[str, str], shoot: SHOOT) -> None:
    await ann.goto(f"/devices/{made['Yard recorder']}")
    await expect(ann.get_by_role("region", name="History")).to_contain_text("Accepted")
    await shoot(ann, "device")
    await ann.get_by_role("button", name="Live view", exact=True).click()
    await expect(ann.locator(".screen")).to_have_attribute("data-state", "playing")
    await shoot(ann, "live")
    await ann.get_by_role("button", name="Close").last.click()
    await ann.goto(f"/devices/{made['Shop till']}")  # a camera's way in has a password in it
    await ann.get_by_role("button", name="Connect").click()
    await ann.get_by_role("dialog").get_by_role("button", name="Connect", exact=True).click()
    await expect(ann.get_by_role("dialog").get_by_text(re.compile(r"^ssh "))).to_be_visible()
    await shoot(ann, "connect")
    for path, name in (("people", "people"), ("devices", "by-device"), ("connected", "connected")):
        await ann.goto(f"/sharing/{path}")
        await expect(ann.get_by_role("main").get_by_text("Office laptop").first).to_be_visible()
        await shoot(ann, name)
    await ann.goto("/account")
    await expect(ann.get_by_role("region", name="Notices")).to_contain_text("E-mail")
    await shoot(ann, "account")
    await ann.get_by_role("button", name="My QR Code").click()
    await expect(ann.get_by_role("img", name=re.compile("QR code"))).to_be_visible()
    await shoot(ann, "qr")


async def of_the_recipient(world: World, bob: Page, made: dict[str, str], shoot: SHOOT) -> None:
    await expect(bob.get_by_role("heading", name="Pump house")).to_be_visible()
    await shoot(bob, "inbox")
    await bob.goto(f"/devices/{made['Office laptop']}")
    await expect(bob.get_by_role("button", name="Give back…")).to_be_visible()
    await shoot(bob, "device-shared")
    (mail,) = await until(lambda: world.mails(BOB, "Pump house"), 60)
    found = re.search(r"https?://\S+/invitations/\S+", mail["text"])
    assert found is not None
    await bob.goto(found[0])
    await expect(bob.get_by_role("button", name="Accept")).to_be_visible()
    await shoot(bob, "invitation")
    await bob.context.clear_cookies()
    await bob.goto("/")
    await expect(bob.get_by_role("link", name=re.compile("Sign in"))).to_be_visible()
    await shoot(bob, "welcome")
