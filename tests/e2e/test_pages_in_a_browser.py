"""What a sharer writes and names, on the pages of a real browser: all of it is there, nothing breaks out."""

import re
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
from playwright.async_api import Browser, Page, async_playwright

from contracts.directory import DeviceSnapshot, Service, Target
from devstack import seed
from devstack.world import World, until

SHARE = """
mutation($device: String!, $email: [String!]!, $message: String!, $ends: DateTime!) {
  share(deviceId: $device, email: $email, message: $message, endsAt: $ends)
}
"""
MESSAGE = f"Look after it, <b>please</b>.\n<script>document.title = 'taken'</script>\n{'x' * 300}"
# What sticks out of the window on either side, and what its words are.
STICKS_OUT = """
() => [...document.querySelectorAll('body *:not(.skip, .hidden-words)')].filter((element) => {
  const box = element.getBoundingClientRect();
  return box.width > 0 && (box.left < -1 || box.right > innerWidth + 1);
}).map((element) => `${element.tagName} ${element.textContent}`)
"""
# Where each of the words begins and ends on the screen, beside a hostile name.
PLACES = """
(words) => words.map((word) => {
  const walk = document.createTreeWalker(document.querySelector('h1'), NodeFilter.SHOW_TEXT);
  for (let node = walk.nextNode(); node; node = walk.nextNode()) {
    const at = node.data.indexOf(word);
    if (at < 0) continue;
    const [first, last] = [document.createRange(), document.createRange()];
    first.setStart(node, at); first.setEnd(node, at + 1);
    last.setStart(node, at + word.length - 1); last.setEnd(node, at + word.length);
    return [first.getBoundingClientRect().left, last.getBoundingClientRect().left];
  }
})
"""


async def signed_in(browser: Browser, portal: str, *, width: int, scheme: str) -> Page:
    """A page of Bob's, in a window of its own."""
    look = "dark" if scheme == "dark" else "light"
    page = await browser.new_page(viewport={"width": width, "height": 800}, color_scheme=look)
    await page.goto(f"{portal}/auth/login")
    await page.click('button[value="bob"]')
    return page


@pytest.mark.slow
async def test_hostile_words_fit_on_a_phone_and_stay_words(world: World, chromium: str) -> None:
    device = f"d-{uuid4().hex[:12]}"
    target = Target(host=world.targets.host, port=world.targets.echo_port)
    service = Service(service_id=f"{device}.1", name="S" * 400, protocol="tcp", target=target)
    await world.add_device(
        DeviceSnapshot(
            device_id=device, owner_account_id="ann", name=f"\u202e{device} {'W' * 400}", kind="camera",
            services=(service,),
        )
    )  # fmt: skip
    owner = await world.account(seed.OWNER_EMAIL)
    ends = datetime.now(UTC) + timedelta(days=2)
    await owner.ask(
        SHARE, device=device, email=[seed.RECIPIENT_EMAIL], message=MESSAGE, ends=ends.isoformat()
    )
    (mail,) = await until(lambda: world.mails(seed.RECIPIENT_EMAIL, device))
    found = re.search(r"https?://\S+/invitations/\S+", mail["text"])
    assert found is not None
    portal = world.status.url("portal")
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=chromium)
        try:
            for width, scheme in ((360, "light"), (1280, "dark")):
                page = await signed_in(browser, portal, width=width, scheme=scheme)
                for address in (f"{portal}/inbox", found[0]):
                    await page.goto(address)
                    words = page.locator("blockquote", has_text="Look after it")
                    await words.wait_for()
                    assert await page.evaluate(STICKS_OUT) == []
                    assert (await words.inner_text()).splitlines() == MESSAGE.splitlines()
                    assert "taken" not in await page.title()
                    assert f"Until {ends.day} {ends:%b}" in await page.inner_text("main")
                for left, right in await page.evaluate(PLACES, ["wants", "with"]):
                    assert left < right, "a name turned our own words round"
                await page.close()
        finally:
            await browser.close()
