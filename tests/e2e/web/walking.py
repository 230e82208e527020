"""What walks have in common: devices of one's own, and the dialogs that lead to a share."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Final
from uuid import uuid4

from playwright.async_api import Locator, Page, expect

from contracts.directory import DeviceSnapshot, Service, StreamPaths, Target
from contracts.permissions import Permission
from devstack import seed
from devstack.world import World

# When something is seen first, by the clock that all pages of a machine share.
SEEN_AT = """(name) => new Promise((resolve) => {
  const look = () => {
    if (%s) resolve(performance.timeOrigin + performance.now());
    else setTimeout(look, 10);
  };
  look();
})"""

Person = Callable[..., Awaitable[Page]]
Audit = Callable[[Page, str], Awaitable[None]]

BOB: Final = seed.RECIPIENT_EMAIL
FUNCTIONS: Final = frozenset(
    {Permission.LIVE_VIEW, Permission.PLAYBACK, Permission.TWO_WAY_AUDIO, Permission.PTZ}
    | {Permission.ALARM_NOTIFICATIONS}
)


async def named_device(world: World, name: str) -> str:
    """A new computer of Ann's with an echo service; its id."""
    device = f"d-{uuid4().hex[:12]}"
    target = Target(host=world.targets.host, port=world.targets.echo_port)
    service = Service(service_id=f"{device}.1", name="Terminal", protocol="tcp", target=target)
    await world.add_device(
        DeviceSnapshot(
            device_id=device, owner_account_id="ann", name=name, kind="computer", services=(service,)
        )
    )
    return device


def row(page: Page, name: str) -> Locator:
    """A device of the list."""
    return page.get_by_role("listitem").filter(has=page.get_by_role("link", name=name, exact=True))


async def pick(page: Page, *addresses: str) -> None:
    """Choose contacts in the Contact Picker, known or new."""
    await page.get_by_role("button", name="Pick…").click()
    picker = page.get_by_role("dialog", name="Contact Picker")
    await picker.get_by_label("Search contacts").fill("\n".join(addresses))
    await picker.get_by_label("Search contacts").press("Enter")
    for address in addresses:
        await expect(picker.get_by_role("checkbox", name=address)).to_be_checked()
    await picker.get_by_role("button", name="Choose Contacts").click()
    await expect(picker).to_be_hidden()


async def open_bulk(page: Page, *names: str) -> Locator:
    """Tick devices and open the dialog for all of them."""
    for name in names:
        await page.get_by_label(f"Select {name}", exact=True).check()
    await page.get_by_role("button", name="Actions", exact=True).click()
    await page.get_by_role("menuitem", name="Share…").click()
    dialog = page.get_by_role("dialog").last
    await expect(dialog).to_be_visible()
    return dialog


async def recorder(
    world: World, name: str | None = None, cameras: Sequence[str] = ("Gate", "Yard")
) -> tuple[str, str]:
    """A recorder of Ann's with cameras: its id and name."""
    device, name = f"r-{uuid4().hex[:10]}", name or f"Recorder {uuid4().hex[:6]}"
    target = Target(host=world.targets.host, port=world.targets.camera_port)
    services = tuple(
        Service(
            service_id=f"{device}.{channel}", name=camera, protocol="rtsp", target=target, channel=channel,
            permissions=FUNCTIONS,
            stream=StreamPaths(live="/ch{channel}/live", recording="/ch{channel}/recording"),
        )
        for channel, camera in enumerate(cameras, 1)
    )  # fmt: skip
    snapshot = DeviceSnapshot(
        device_id=device, owner_account_id="ann", name=name, kind="recorder", services=services
    )
    await world.add_device(snapshot)
    return device, name


async def share_dialog(page: Page, name: str) -> Locator:
    """From the device's own page (H3)."""
    await page.get_by_label("Search devices").fill(name)
    await page.get_by_role("link", name=name, exact=True).click()
    await page.get_by_role("button", name="Share…").click()
    return page.get_by_role("dialog", name=f"Share {name}")
