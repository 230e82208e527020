"""The first list of a thousand devices: it comes quickly, whole, and nothing jumps."""

import asyncio
from datetime import UTC, datetime

import pytest
from playwright.async_api import expect
from walking import Person

from contracts.codec import encode, envelope
from contracts.directory import DeviceSnapshot, Service, Target
from devstack.world import World

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

DEVICES = 1000
MOST_SHIFT = 0.01
"""Cumulative layout shift; whatever is below 0.1 is called good."""
MOST_MS = 1000
"""From the navigation until the first rows stand; `bench/web_list.py` measures it."""
LOADS = 10
"""Of which the fastest counts: the machine may do much else meanwhile."""
WATCH = """
window.shift = 0;
new PerformanceObserver((list) => {
  for (const entry of list.getEntries()) if (!entry.hadRecentInput) window.shift += entry.value;
}).observe({type: 'layout-shift', buffered: true});
const look = () => {
  if (document.querySelector('.device')) window.first ??= performance.now();
  else requestAnimationFrame(look);
};
requestAnimationFrame(look);
"""


async def a_thousand(world: World, owner: str) -> None:
    """Devices as a registry tells of them."""
    target = Target(host=world.targets.host, port=world.targets.echo_port)

    async def tell(number: int) -> None:
        device = f"list-{number:04}"
        snapshot = DeviceSnapshot(
            device_id=device,
            owner_account_id=owner,
            name=f"Device {number:04} of the long list",
            kind=("computer", "camera", "recorder", "alarm_panel")[number % 4],
            services=(Service(service_id=f"{device}.1", name="Service", protocol="tcp", target=target),),
        )
        message = envelope(snapshot, source="upstream-test", time=datetime.now(UTC), subject=device)
        await world.producer.send("directory.devices", device, encode(message))

    await asyncio.gather(*(tell(number) for number in range(DEVICES)))


async def test_a_thousand_devices_stand_still_from_the_first_on(world: World, person: Person) -> None:
    await a_thousand(world, "cat")
    cat = await person("cat")
    search = cat.get_by_label("Search devices")
    await search.fill("of the long list")
    await expect(
        cat.get_by_text("1,000 devices shown").or_(cat.locator(".count", has_text="1,000"))
    ).to_be_visible()
    await cat.add_init_script(WATCH)
    await cat.goto("/")
    await expect(cat.get_by_role("listitem").first).to_be_visible()
    await expect(cat.locator(".count")).to_have_text("1,000")
    await cat.evaluate("scrollTo(0, document.body.scrollHeight)")
    await expect(cat.get_by_text("Device 0999")).to_be_visible()
    shift, first = await cat.evaluate("[window.shift, window.first]")
    assert shift < MOST_SHIFT
    loads = [first]
    while min(loads) >= MOST_MS and len(loads) < LOADS:
        await cat.goto("/")
        await expect(cat.locator(".count")).to_have_text("1,000")
        loads.append(await cat.evaluate("window.first"))
    assert min(loads) < MOST_MS, loads
