"""The mailbox keeps what it is sent, shows it safely, and fails when told to."""

import asyncio
import smtplib
from collections.abc import AsyncGenerator, Callable
from email.message import EmailMessage
from pathlib import Path
from typing import Any, TypeVar

import httpx
import pytest

from devstack.smtp import Mailbox

T = TypeVar("T")


@pytest.fixture
async def box(tmp_path: Path) -> AsyncGenerator[Mailbox]:
    async with Mailbox.start(directory=tmp_path / "mail") as mailbox:
        yield mailbox


def mail(to: str = "bob@example.test", subject: str = "Ann shares Workshop PC") -> EmailMessage:
    message = EmailMessage()
    message["From"], message["To"], message["Subject"] = "Latchkey <no-reply@example.test>", to, subject
    message.set_content("Open https://portal.test/accept — grüße")
    message.add_alternative(
        "<html><head><title>x</title></head><body>"
        "<a href='https://portal.test/a'>Accept</a><script>alert(1)</script></body></html>",
        subtype="html",
    )
    return message


async def smtp(mailbox: Mailbox, call: Callable[[smtplib.SMTP], T]) -> T:
    def talk() -> T:
        with smtplib.SMTP(mailbox.smtp_host, mailbox.smtp_port, timeout=10) as connection:
            return call(connection)

    return await asyncio.to_thread(talk)


async def send(mailbox: Mailbox, message: EmailMessage) -> None:
    await smtp(mailbox, lambda connection: connection.send_message(message))


async def get(mailbox: Mailbox, path: str, **params: Any) -> httpx.Response:
    async with httpx.AsyncClient(base_url=mailbox.http_url) as client:
        return await client.get(path, params=params)


def names_in(directory: Path) -> list[str]:
    return [path.name for path in directory.iterdir()]


async def test_a_mail_is_kept_with_envelope_parts_and_bytes(box: Mailbox) -> None:
    await send(box, mail())
    (got,) = await box.wait_for(to="BOB@example.test")
    assert (got.sender, got.recipients) == ("no-reply@example.test", ("bob@example.test",))
    assert got.subject == "Ann shares Workshop PC"
    assert "grüße" in got.text
    assert got.html is not None
    assert "Accept" in got.html
    assert got.header("from") == "Latchkey <no-reply@example.test>"
    assert b"Subject: Ann shares Workshop PC\r\n" in got.raw


async def test_duplicates_stay_and_recipients_are_told_apart(box: Mailbox) -> None:
    same = mail("bob@example.test")
    same["Message-ID"] = "<1@example.test>"
    same.set_boundary("the-same-bytes")
    for message in (same, same, mail("cat@example.test")):
        await send(box, message)
    assert len(box.messages("bob@example.test")) == 2
    assert len(box.messages("cat@example.test")) == 1
    assert box.messages("dan@example.test") == []


async def test_mails_survive_a_restart_and_strange_files_are_left_alone(tmp_path: Path) -> None:
    async with Mailbox.start(directory=tmp_path) as first:
        await send(first, mail())
        before = first.messages()
    (tmp_path / "notes.eml").write_text("not ours")
    async with Mailbox.start(directory=tmp_path) as second:
        assert second.messages() == before
        second.clear()
    assert names_in(tmp_path) == ["notes.eml"]


async def test_wait_for_ends_when_the_mail_is_there_or_time_is_up(box: Mailbox) -> None:
    waiting = asyncio.create_task(box.wait_for(to="bob@example.test", count=2))
    await send(box, mail())
    await send(box, mail())
    assert len(await waiting) == 2
    with pytest.raises(TimeoutError):
        await box.wait_for(to="nobody@example.test", timeout=0.01)


@pytest.mark.parametrize("code", [451, 550])
async def test_recipients_are_refused_as_often_as_asked(box: Mailbox, code: int) -> None:
    box.fail_next(code, times=2)
    for _ in range(2):
        with pytest.raises(smtplib.SMTPRecipientsRefused) as refused:
            await send(box, mail())
        assert refused.value.recipients["bob@example.test"][0] == code
    await send(box, mail())
    assert len(box.messages()) == 1


def test_a_success_code_is_no_failure() -> None:
    with pytest.raises(ValueError, match="400 to 599"):
        Mailbox("127.0.0.1", 1, 2, None).fail_next(250)


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"no headers at all",
        b"Subject: =?utf-8?q?broken=ZZ?=\r\nFrom: <<>>@@\r\nDate: never\r\n\r\nx",
        b"Content-Type: text/plain; charset=no-such\r\n\r\n\xff\xfe",
        b"Content-Type: multipart/alternative; boundary=x\r\n\r\n--y\r\n",
        b"Content-Type: text/html\r\nContent-Transfer-Encoding: base64\r\n\r\n!!!",
        b"Subject: \xff\xfe\r\n\r\n\x00",
    ],
)
async def test_a_malformed_mail_is_kept_and_shown(box: Mailbox, raw: bytes) -> None:
    await smtp(box, lambda connection: connection.sendmail("a@b.test", ["bob@example.test"], raw))
    (got,) = box.messages()
    assert (await get(box, "/")).status_code == 200
    assert (await get(box, f"/messages/{got.id}")).status_code == 200
    assert (await get(box, f"/messages/{got.id}/raw")).status_code == 200
    assert (await get(box, f"/api/v1/messages/{got.id}")).json()["recipients"] == ["bob@example.test"]


async def test_the_api_lists_filters_waits_and_clears(box: Mailbox) -> None:
    assert (await get(box, "/api/v1/messages")).json() == {"messages": [], "total": 0}
    waiting = asyncio.create_task(get(box, "/api/v1/messages", to="bob@example.test", wait=10))
    await send(box, mail())
    (first,) = (await waiting).json()["messages"]
    await send(box, mail(subject="second"))
    newer = (await get(box, "/api/v1/messages", after=first["id"])).json()
    assert [item["subject"] for item in newer["messages"]] == ["second"]
    whole = (await get(box, f"/api/v1/messages/{first['id']}")).json()
    assert "grüße" in whole["text"]
    assert ["Subject", "Ann shares Workshop PC"] in whole["headers"]
    async with httpx.AsyncClient(base_url=box.http_url) as client:
        assert (await client.delete("/api/v1/messages")).status_code == 204
    assert box.messages() == []
    missing = await get(box, f"/api/v1/messages/{first['id']}")
    assert (missing.status_code, missing.json()["error"]["code"]) == (404, "MAIL_NOT_FOUND")


async def test_pages_run_no_script_and_the_mail_is_boxed_in(box: Mailbox) -> None:
    await send(box, mail(subject="<script>alert(2)</script>"))
    (got,) = box.messages()
    for path in ("/", f"/messages/{got.id}", "/messages/none"):
        answer = await get(box, path)
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "script-src" not in policy
        assert "unsafe" not in policy
        assert "<script>" not in answer.text
    shown = await get(box, f"/messages/{got.id}")
    assert 'sandbox="allow-popups allow-popups-to-escape-sandbox"' in shown.text
    inner = await get(box, f"/messages/{got.id}/html")
    assert inner.headers["content-security-policy"].endswith("allow-popups allow-popups-to-escape-sandbox")
    assert '<head><base target="_blank">' in inner.text


@pytest.mark.parametrize(
    ("headers", "code"),
    [({"Host": "evil.test"}, "FOREIGN_HOST"), ({"Origin": "https://evil.test"}, "FOREIGN_ORIGIN")],
)
async def test_other_sites_cannot_reach_it(box: Mailbox, headers: dict[str, str], code: str) -> None:
    await send(box, mail())
    async with httpx.AsyncClient(base_url=box.http_url) as client:
        answer = await client.delete("/api/v1/messages", headers=headers)
    assert answer.json()["error"]["code"] == code
    assert len(box.messages()) == 1


async def test_the_page_deletes_all_on_its_own_button(box: Mailbox) -> None:
    await send(box, mail())
    async with httpx.AsyncClient(base_url=box.http_url, follow_redirects=True) as client:
        answer = await client.post("/clear", headers={"Origin": box.http_url})
    assert "No mail yet" in answer.text
