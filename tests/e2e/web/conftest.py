"""People at browsers of their own, side by side, before one whole stack."""

import sys
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Literal, cast

import pytest
from axe_playwright_python.async_playwright import Axe
from playwright.async_api import Browser, Page, async_playwright, expect

from devstack import seed
from devstack.state import StateDirectory
from devstack.world import World

sys.path.insert(0, str(Path(__file__).parent))  # the module beside, which the tests use

from walking import Audit, Person, named_device

DEADLINE_MS = 30_000
"""Of everything that a page is waited for: the machine may be slow, and nothing here measures it."""

SWITCHES = ("--use-fake-ui-for-media-stream",)


@pytest.fixture(scope="session")
async def world(own_stack: Callable[[], StateDirectory]) -> AsyncIterator[World]:
    """On a stack of its own: people look at lists here, in which there is nothing of other tests."""
    async with World.at(own_stack()) as world:
        yield world


@pytest.fixture(scope="session", autouse=True)
async def invited_before(world: World) -> tuple[str, str]:
    """A device of Ann's to which Cat is invited, and its name; only after a minute may that be sent again."""
    name = "Spare laptop"
    device = await named_device(world, name)
    await (await world.account(seed.OWNER_EMAIL)).share(device, "cat@example.test")
    return device, name


@pytest.fixture(scope="session")
async def browser(chromium: str) -> AsyncIterator[Browser]:
    """One browser; each person has a context of his own in it."""
    expect.set_options(timeout=DEADLINE_MS)
    async with async_playwright() as playwright:
        launched = await playwright.chromium.launch(executable_path=chromium, args=list(SWITCHES))
        yield launched
        await launched.close()


@pytest.fixture
async def person(world: World, browser: Browser) -> AsyncGenerator[Person]:
    """Sign somebody in: ``await person("ann", width=390)``; he is at the device list then.

    Whatever his pages complain of (scripts that fail, what the Content-Security-Policy forbids) fails the
    test in the end.
    """
    portal = world.status.url("portal")
    complaints: list[str] = []

    async with AsyncExitStack() as stack:

        async def sign_in(
            name: str,
            path: str = "/",
            *,
            width: int = 1200,
            scheme: Literal["light", "dark"] = "light",
            launched: Browser = browser,
        ) -> Page:
            context = await launched.new_context(
                viewport={"width": width, "height": 800},
                color_scheme=scheme,
                has_touch=width < 500,
                base_url=portal,
                permissions=["clipboard-read", "clipboard-write"],
            )
            stack.push_async_callback(context.close)
            context.set_default_timeout(DEADLINE_MS)
            page = await context.new_page()
            page.on("pageerror", lambda error: complaints.append(f"{name}: {error}"))
            page.on("console", lambda said: _note(said, complaints, name, portal))
            await page.goto(f"/auth/login?next={path}")
            await page.click(f'button[value="{name}"]')
            await expect(page.get_by_role("heading", level=1)).to_be_visible()
            return page

        yield sign_in
    assert complaints == []


def _note(said: Any, complaints: list[str], name: str, portal: str) -> None:
    ours = said.location.get("url", "").startswith(portal)
    lost = "net::ERR_" in said.text  # what a test cuts on purpose
    too_often = "429 (Too Many Requests)" in said.text  # what a test does on purpose
    if said.type == "error" and ours and not lost and not too_often:
        complaints.append(f"{name}: {said.text} {said.location}")


@pytest.fixture(scope="session")
def audit() -> Audit:
    """``await audit(page, "what")``: axe-core finds nothing wrong with what is shown."""
    run = cast("Callable[[Page], Awaitable[Any]]", Axe().run)  # its own types tell nothing

    async def look(page: Page, what: str) -> None:
        found: Any = await run(page)
        problems = [
            f"{item['id']}: {node['target']} {node['failureSummary']}"
            for item in found.response["violations"]
            for node in item["nodes"]
        ]
        assert problems == [], what

    return look
