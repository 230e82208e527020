"""What Mailpit's HTML check finds in mails, where Mailpit is built."""

from collections.abc import AsyncGenerator
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import httpx
import pytest

from contracts.permissions import Permission, SomeServices, Terms
from devstack import mailpit
from devstack.process import listens, spawn, stop, wait_until
from notifier.letters import Renderer
from notifier.planner import Invitation, Notice, Template
from notifier.texts import Told

TERMS = Terms(
    scope=SomeServices(services={"s1": "all", "s2": frozenset({Permission.CONNECT})}), scripting=True
)
LEFT = {
    "html-body", "html-style", "css-at-media", "css-background-color", "css-border", "css-border-radius",
    "css-display", "css-display-none", "css-line-height", "css-margin", "css-max-width", "css-padding",
    "css-text-decoration", "css-width", "css-word-break",
}  # fmt: skip
"""Why each is there says docs/notices.md, "The ways"."""


@pytest.fixture
async def checker(tmp_path: Path) -> AsyncGenerator[httpx.AsyncClient]:
    program = mailpit.kept()
    if not program.exists():  # building it beside other tests would take their time
        pytest.skip("Mailpit is not built: with Go, `./latchkey bench notices` builds it")
    process, _, port = mailpit.process(program, tmp_path / "mailpit.log")
    child = spawn(process)
    try:
        wait_until(lambda: listens(child.pid, port), child, process, 60)
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}/api/v1") as client:
            yield client
    finally:
        stop(child, process)


def told(number: int) -> Told:
    share, contact = UUID(int=number), UUID(int=2)
    invitation = Invitation(share, "d", contact, "ann", "requested", 1, 1, None, TERMS)
    notice = Notice(
        UUID(int=number), contact, None, Template.INVITATION, share, "d", "ann", 1, datetime.now(UTC)
    )
    names = {"s1": "Porch", "s2": "SSH"}
    return Told(
        notice, invitation, "Ann Example", "mailto:ann@example.com", "mailto:bob@example.com", "Gate", names
    )


@pytest.mark.slow
async def test_the_html_check_finds_nothing_that_is_not_explained(checker: httpx.AsyncClient) -> None:
    renderer = Renderer(public_url="https://share.example.com", link_secret="s" * 40)
    for items in ([told(1)], [told(1), told(2), told(3)]):
        letter = renderer.letter(
            items, address="mailto:bob@example.com", language=None, key="k", correlation_id="c"
        )
        mail = {"From": {"Email": "a@example.com"}, "To": [{"Email": "b@example.com"}], "HTML": letter.html}
        kept = (await checker.post("send", json=mail)).raise_for_status().json()["ID"]
        found = (await checker.get(f"message/{kept}/html-check")).raise_for_status().json()
        assert {item["Slug"] for item in found["Warnings"]} == LEFT
        assert found["Total"]["Supported"] > 97
