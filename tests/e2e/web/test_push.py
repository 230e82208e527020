"""Notices in browsers, beside their pages: whole Web Push in Firefox, the service worker in Chromium."""

import asyncio
import contextlib
import json
import re
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Page

from devstack import seed
from devstack.process import free_port
from devstack.state import StateDirectory
from devstack.world import World, until

sys.path.insert(0, str(Path(__file__).parent))

import firefox
import push_service
from firefox import Firefox

Person = Callable[..., Awaitable[Page]]
SHARE = "mutation($device: String!, $email: [String!]!) { share(deviceId: $device, email: $email) }"
_NOTICES = """
const registration = await navigator.serviceWorker.getRegistration('/');
const all = (await registration.getNotifications()).map(
  ({ title, body, tag, data, actions }) => ({ title, body, tag, data, actions }));
"""
SHOWN = f"return (async () => {{ {_NOTICES} return all.length && all; }})()"
SHOWN_WITH = f"{_NOTICES} return all.some((one) => one.body === body) && all;"
CHOOSE = """
const alert = Services.wm.getMostRecentWindow('alert:alert');
const action = { QueryInterface: ChromeUtils.generateQI(['nsIAlertAction']), action: arguments[0], title: '',
  iconURL: '', windowsSystemActivationType: false, opaqueRelaunchData: '' };
alert.gAlertListener.observe(action, 'alertclickcallback', alert.gAlertCookie);
"""


@pytest.fixture
async def push_stack(
    own_stack: Callable[[], StateDirectory], monkeypatch: pytest.MonkeyPatch
) -> AsyncGenerator[tuple[World, push_service.PushService]]:
    """A stack whose notifier may send to a push service of the test's."""
    firefox.programs()
    port = free_port()
    monkeypatch.setenv("LATCHKEY_PUSH_HOSTS", json.dumps([f"127.0.0.1:{port}"]))
    async with push_service.running(port) as service, World.at(own_stack()) as world:
        yield world, service


async def acted(browser: Firefox, action: str) -> None:
    """Choose an action of the notice that is shown, as a desktop does. The alert of Firefox itself, which
    is shown where there is no desktop, has no buttons for them."""
    async with browser.in_chrome():
        await browser.until("return Services.wm.getMostRecentWindow('alert:alert')?.gAlertListener != null")
        await browser.run(CHOOSE, action)


@pytest.mark.slow
@pytest.mark.timeout(240)
async def test_a_push_reaches_a_browser_and_its_actions_open_the_invitation(
    push_stack: tuple[World, push_service.PushService], tmp_path: Path
) -> None:
    world, service = push_stack
    preferences = {
        "dom.push.connection.enabled": True,
        "dom.push.serverURL": f"ws://{service.address}/",
        "dom.push.testing.allowInsecureServerURL": True,
        "dom.push.testing.ignorePermission": True,
        "permissions.default.desktop-notification": 1,
        "alerts.useSystemBackend": False,
    }
    portal = world.status.url("portal")
    owner = await world.account(seed.OWNER_EMAIL)
    async with firefox.running(preferences, tmp_path / "geckodriver.log") as browser:
        await browser.go(f"{portal}/auth/login?next=/account")
        await browser.click('button[value="bob"]')
        await browser.click("button", "Turn on")
        await browser.element("button", "Turn off")
        for number, action in enumerate(("1", "0")):
            device = await world.device(owner="ann")
            await owner.ask(SHARE, device=device, email=[seed.RECIPIENT_EMAIL])
            (shown,) = await browser.until(SHOWN)
            assert "wants to share" in shown["title"]
            assert shown["tag"] == service.taken[number]["topic"]
            assert [item["title"] for item in shown["actions"]] == ["Accept", "Reject"]
            (mail,) = await until(lambda device=device: world.mails(seed.RECIPIENT_EMAIL, device))
            links = re.findall(r"https?://\S+/invitations/\S+", mail["text"])
            assert shown["data"] == {"url": links[0], "urls": links}
            before = await browser.windows()
            await acted(browser, action)
            await browser.switch_to_new(before, links[int(action)])
        await browser.click('button[value="accept"]')  # what is opened changes nothing: the person does
        await browser.until("return location.pathname === '/done'")


async def delivered(debugging: Any, message: dict[str, Any], page: Page, body: str) -> list[dict[str, Any]]:
    """The notices shown once that with ``body`` is among them. A message to a worker that a busy browser does
    not wake in time is dropped without a word, so it is delivered again."""
    async with asyncio.timeout(30):
        while True:
            await debugging.send("ServiceWorker.deliverPushMessage", message)
            with contextlib.suppress(AssertionError):
                return await until(
                    lambda: page.evaluate(f"async (body) => {{ {SHOWN_WITH} }}", body), seconds=10
                )


@pytest.mark.slow
@pytest.mark.timeout(240)
async def test_a_push_is_shown_by_the_service_worker_in_chromium(world: World, person: Person) -> None:
    """Without a push service: what would come of it is delivered by the debugging protocol."""
    page = await person("bob", "/account")
    portal = world.status.url("portal")
    await page.context.grant_permissions(["notifications"], origin=portal)
    await page.evaluate(
        "navigator.serviceWorker.register('/static/push-worker.js', { scope: '/' })"
        ".then(() => navigator.serviceWorker.ready).then(() => true)"
    )
    debugging: Any = await page.context.new_cdp_session(page)  # its own types tell nothing
    registered: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    def updated(event: dict[str, Any]) -> None:
        for one in event["registrations"]:
            if one["scopeURL"] == f"{portal}/" and not registered.done():
                registered.set_result(one["registrationId"])

    debugging.on("ServiceWorker.workerRegistrationUpdated", updated)
    await debugging.send("ServiceWorker.enable")
    url = f"{portal}/invitations/x"
    told = {
        "title": "Ann wants to share Front door with you", "body": "You decide.", "tag": "t1", "url": url,
        "actions": [{"title": "Accept", "url": url}, {"title": "Reject", "url": f"{url}y"}],
    }  # fmt: skip
    async with asyncio.timeout(30):
        about = {"origin": portal, "registrationId": await registered}
    for body in ("You decide.", "You still decide."):  # the second one replaces the first
        data = json.dumps({**told, "body": body})
        (one,) = await delivered(debugging, {**about, "data": data}, page, body)
        assert (one["title"], one["tag"], one["data"]["url"]) == (told["title"], "t1", url)
        assert [item["title"] for item in one["actions"]] == ["Accept", "Reject"]
