"""A real Firefox by the protocol of WebDriver (https://www.w3.org/TR/webdriver2/), through geckodriver."""

import asyncio
import os
import shutil
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from devstack.process import free_port

_ELEMENT = "element-6066-11e4-a52e-4f735466cecf"
_SECONDS = 60
_FIND = """
return [...document.querySelectorAll(arguments[0])].find(
  (one) => !arguments[1] || one.textContent.trim() === arguments[1]);
"""


def programs() -> tuple[str, str]:
    """Firefox and geckodriver; a test that wants them is skipped where they are not."""
    firefox = shutil.which("firefox-esr") or shutil.which("firefox")
    driver = shutil.which("geckodriver", path=f"{os.environ['PATH']}:{Path.home() / '.cargo/bin'}")
    if firefox is None or driver is None:
        pytest.skip("there is no firefox-esr or no geckodriver on this machine: install them to run this")
    return firefox, driver


class Firefox:
    """One window of it. What is waited for comes within a minute."""

    def __init__(self, client: httpx.AsyncClient, session: str) -> None:
        self._client, self._session = client, session

    async def ask(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        """One command of the session; raises AssertionError with what the browser says when it fails."""
        answer = await self._client.request(
            method, f"/session/{self._session}/{path}", json=(body or {}) if method == "POST" else None
        )
        value = answer.json()["value"]
        assert answer.is_success, value
        return value

    async def go(self, address: str) -> None:
        """Open an address and wait until it is loaded."""
        await self.ask("POST", "url", {"url": address})

    async def element(self, css: str, text: str = "") -> str:
        """The first element that ``css`` selects with exactly that text, once it is there."""
        found = await self.until(_FIND, css, text)
        return found[_ELEMENT]

    async def click(self, css: str, text: str = "") -> None:
        """Click an `element`."""
        await self.ask("POST", f"element/{await self.element(css, text)}/click")

    async def windows(self) -> set[str]:
        """All windows and tabs."""
        return set(await self.ask("GET", "window/handles"))

    async def switch_to_new(self, before: set[str], address: str) -> None:
        """Wait for a tab that was not there ``before``, go on in it, and wait until it is at ``address``."""
        async with asyncio.timeout(_SECONDS):
            while not (new := await self.windows() - before):  # noqa: ASYNC110 - as above
                await asyncio.sleep(0.1)
        await self.ask("POST", "window", {"handle": new.pop()})
        await self.until(
            "return location.href === arguments[0] && document.readyState === 'complete'", address
        )

    async def run(self, script: str, *arguments: object) -> Any:
        """What a script returns, in the page or in the browser itself (`in_chrome`); promises are awaited."""
        return await self.ask("POST", "execute/sync", {"script": script, "args": arguments})

    async def until(self, script: str, *arguments: object) -> Any:
        """What a script returns, once that is something."""
        async with asyncio.timeout(_SECONDS):
            while not (found := await self.run(script, *arguments)):  # noqa: ASYNC110 - it is in the browser
                await asyncio.sleep(0.1)
        return found

    @asynccontextmanager
    async def in_chrome(self) -> AsyncGenerator[None]:
        """Scripts run in the browser itself while the block runs."""
        await self.ask("POST", "moz/context", {"context": "chrome"})
        try:
            yield
        finally:
            await self.ask("POST", "moz/context", {"context": "content"})


@asynccontextmanager
async def running(preferences: dict[str, Any], log: Path) -> AsyncGenerator[Firefox]:
    """A browser without a screen, with a profile of its own."""
    firefox, driver = programs()
    port = free_port()
    with log.open("wb") as out:
        process = await asyncio.create_subprocess_exec(
            driver, "--port", str(port), "--allow-system-access",
            env={**os.environ, "MOZ_HEADLESS": "1"}, stdout=out, stderr=asyncio.subprocess.STDOUT,
        )  # fmt: skip
    options = {"binary": firefox, "args": ["-headless"], "prefs": preferences}
    try:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=_SECONDS) as client:
            async with asyncio.timeout(_SECONDS):
                while True:
                    try:
                        await client.get("/status")
                        break
                    except httpx.TransportError:
                        await asyncio.sleep(0.1)
            wanted = {"capabilities": {"alwaysMatch": {"moz:firefoxOptions": options}}}
            answer = (await client.post("/session", json=wanted)).json()["value"]
            assert "sessionId" in answer, answer
            try:
                yield Firefox(client, answer["sessionId"])
            finally:
                await client.delete(f"/session/{answer['sessionId']}")
    finally:
        process.terminate()
        await process.wait()
