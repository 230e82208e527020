"""How long a person with a thousand devices waits for the list, in a real browser before a running stack.

From the navigation to a signed-in page until the first rows stand, and until all thousand are counted and the
list can be scrolled to its end; with how much the page jumped on the way (cumulative layout shift).

    ./latchkey bench web_list
"""

import argparse
import asyncio
import json
import platform
import shutil
import statistics
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from playwright.async_api import Browser, Page, async_playwright

from contracts.codec import encode, envelope
from contracts.directory import DeviceSnapshot, Service, Target
from devstack.status import Status
from servicekit.kafka import Producer

DEVICES = 1000
OWNER = "dan"
AIM_MS = 1000.0
AIM_SHIFT = 0.01
WATCH = """
window.shift = 0;
new PerformanceObserver((list) => {
  for (const entry of list.getEntries()) if (!entry.hadRecentInput) window.shift += entry.value;
}).observe({type: 'layout-shift', buffered: true});
const look = () => {
  const rows = document.querySelectorAll('.device');
  const now = () => performance.now();
  const count = document.querySelector('.count')?.textContent;
  if (rows.length && !window.first) requestAnimationFrame(() => { window.first ??= now(); });
  if (count === '1,000' && !window.whole) requestAnimationFrame(() => { window.whole ??= now(); });
  if (!window.whole) requestAnimationFrame(look);
};
requestAnimationFrame(look);
"""


async def provide(bootstrap: str) -> None:
    """Dan's thousand devices, as a registry tells of them; the same ones at each run."""
    target = Target(host="127.0.0.1", port=9)
    async with Producer(bootstrap, "bench-web-list") as producer:
        for number in range(DEVICES):
            device = f"list-{number:04}"
            snapshot = DeviceSnapshot(
                device_id=device,
                owner_account_id=OWNER,
                name=f"Device {number:04} of the long list",
                kind=("computer", "camera", "recorder", "alarm_panel")[number % 4],
                services=tuple(
                    Service(
                        service_id=f"{device}.{part}", name=f"Service {part}", protocol="tcp", target=target
                    )
                    for part in (1, 2)
                ),
            )
            message = envelope(snapshot, source="bench", time=datetime.now(UTC), subject=device)
            await producer.send("directory.devices", device, encode(message))


async def once(page: Page, portal: str) -> dict[str, float]:
    """Load the list anew; milliseconds since the navigation began."""
    await page.goto(f"{portal}/")
    await page.wait_for_function("window.whole", timeout=60_000)
    await page.evaluate("scrollTo(0, document.body.scrollHeight)")
    await page.get_by_text("Device 0999").wait_for()
    told: dict[str, float] = await page.evaluate(
        "({first: window.first, whole: window.whole, shift: window.shift})"
    )
    return told


async def measured(browser: Browser, portal: str, runs: int) -> list[dict[str, float]]:
    """Each run in a context of its own, so that nothing is in the browser's cache; signed in before."""
    found: list[dict[str, float]] = []
    for _ in range(runs):
        context = await browser.new_context(viewport={"width": 1200, "height": 800}, bypass_csp=True)
        page = await context.new_page()
        await page.goto(f"{portal}/auth/login?next=/done?outcome=rejected")
        await page.click(f'button[value="{OWNER}"]')
        await page.wait_for_load_state()
        await page.add_init_script(WATCH)
        found.append(await once(page, portal))
        await context.close()
    return found


async def main(status: Status, runs: int) -> dict[str, Any]:
    """The figures."""
    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if chromium is None:
        raise SystemExit("There is no Chromium on this machine: install the package chromium.")
    await provide(status.addresses["kafka"])
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=chromium)
        await measured(browser, status.url("portal"), 1)  # waits until all thousand have arrived
        taken = await measured(browser, status.url("portal"), runs)
        await browser.close()

    def median(what: str) -> float:
        return statistics.median(run[what] for run in taken)

    first, whole, shift = median("first"), median("whole"), max(run["shift"] for run in taken)
    figures = [
        {"figure": name, "value": value, "unit": unit, "aim": aim, "met": value < aim}
        for name, value, unit, aim in (
            ("first rows shown", round(first), "ms", AIM_MS),
            ("all 1,000 listed", round(whole), "ms", AIM_MS),
            ("cumulative layout shift", round(shift, 4), "", AIM_SHIFT),
        )
    ]
    return {"name": "web_list", "figures": figures, "runs": runs, "machine": platform.platform()}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("status", type=Path)
    parser.add_argument("--runs", type=int, default=5)
    given = parser.parse_args()
    print(json.dumps(asyncio.run(main(Status.model_validate_json(given.status.read_text()), given.runs))))
