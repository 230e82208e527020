"""An SMTP server that keeps every mail it gets and shows it on a page: the demo's mailbox.

Each mail is one file, ``<id>.eml``: a line ``X-Envelope: {…}`` (id, time, sender, recipients), then the bytes
as they came. Nothing is merged or dropped, so a mail that was sent twice is there twice.
"""

import asyncio
import json
import logging
import re
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from email import policy
from email.message import EmailMessage
from email.parser import BytesParser
from pathlib import Path
from typing import Annotated, Any, Self
from weakref import WeakSet

import typer
from aiosmtpd.smtp import SMTP, Envelope, Session
from fastapi import FastAPI, Query, Response
from fastapi.responses import HTMLResponse, PlainTextResponse, RedirectResponse

from contracts.base import new_id
from devstack.demo_files import replace_file
from devstack.demo_http import demo_app, http_url, listen, page, port_of, serving, until_stopped
from servicekit.http import ApiError
from servicekit.logging import configure

MAX_MAIL_BYTES = 10_000_000
MAX_WAIT_SECONDS = 30.0
_SHOWN = 200
_ENVELOPE = b"X-Envelope: "

# What a mail may do when it is shown: style itself, and open links in a new window. No script, no fetching.
_SANDBOX = "allow-popups allow-popups-to-escape-sandbox"
_MAIL_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'; "
    f"frame-ancestors 'self'; sandbox {_SANDBOX}"
)
_DOCUMENT_STARTS = tuple(
    re.compile(tag, re.IGNORECASE) for tag in (r"<head(\s[^>]*)?>", r"<html(\s[^>]*)?>", r"<!doctype[^>]*>")
)


@dataclass(frozen=True, slots=True)
class Mail:
    """One mail as it was accepted. ``sender`` and ``recipients`` are the envelope's, not the headers'.

    ``headers`` are decoded, in the order of the mail; ``text`` and ``html`` are its first such parts
    (``text`` empty and ``html`` None when absent); ``raw`` are the bytes that came after DATA.
    """

    id: str
    received_at: datetime
    sender: str
    recipients: tuple[str, ...]
    subject: str
    headers: tuple[tuple[str, str], ...]
    text: str
    html: str | None
    raw: bytes

    def header(self, name: str) -> str | None:
        """The first header of that name, whatever its case."""
        return next((value for key, value in self.headers if key.lower() == name.lower()), None)

    def is_to(self, address: str) -> bool:
        """Whether ``address`` is one of the recipients."""
        return any(address.casefold() == recipient.casefold() for recipient in self.recipients)

    def summary(self) -> dict[str, Any]:
        """What lists show of it, as JSON."""
        return {
            "id": self.id,
            "received_at": self.received_at.isoformat(),
            "sender": self.sender,
            "recipients": list(self.recipients),
            "subject": self.subject,
        }


@dataclass(frozen=True, slots=True)
class _Envelope:
    id: str
    received_at: str
    sender: str
    recipients: list[str]


class Mailbox:
    """A running mailbox; made by `start`."""

    def __init__(self, host: str, smtp_port: int, http_port: int, directory: Path | None) -> None:
        self.smtp_host, self.smtp_port = host, smtp_port
        self.http_url = http_url(host, http_port)
        self._directory = directory
        self._changed = asyncio.Condition()
        self._failures: list[int] = []
        self._mails = _load(directory) if directory else []

    @classmethod
    @asynccontextmanager
    async def start(
        cls, host: str = "127.0.0.1", smtp_port: int = 0, http_port: int = 0, directory: Path | None = None
    ) -> AsyncGenerator[Self]:
        """Serve SMTP and HTTP while the block runs; port 0 takes a free one.

        Mails are kept in ``directory``; without one they live in memory only.
        """
        sessions: WeakSet[SMTP] = WeakSet()
        loop = asyncio.get_running_loop()
        smtp_socket, http_socket = listen(host, smtp_port), listen(host, http_port)
        mailbox = cls(host, port_of(smtp_socket), port_of(http_socket), directory)

        def session() -> SMTP:
            protocol = SMTP(
                _Handler(mailbox),
                hostname="mailbox.localhost",
                ident="Latchkey demo mailbox",
                enable_SMTPUTF8=True,
                data_size_limit=MAX_MAIL_BYTES,
                loop=loop,
            )
            sessions.add(protocol)
            return protocol

        server = await loop.create_server(session, sock=smtp_socket)
        try:
            async with serving(_app(mailbox), http_socket):
                yield mailbox
        finally:
            server.close()
            for protocol in sessions:
                if protocol.transport is not None:
                    protocol.transport.close()
            await server.wait_closed()

    def messages(self, to: str | None = None) -> list[Mail]:
        """The mails (of recipient ``to``), oldest first."""
        return [mail for mail in self._mails if to is None or mail.is_to(to)]

    def message(self, mail_id: str) -> Mail | None:
        """One mail."""
        return next((mail for mail in self._mails if mail.id == mail_id), None)

    async def wait_for(
        self, to: str | None = None, count: int = 1, timeout: float = 10.0, after: str | None = None
    ) -> list[Mail]:
        """Wait until there are ``count`` mails (to ``to``, newer than mail ``after``); returns all such.

        Raises:
            TimeoutError: ``timeout`` seconds have passed.
        """

        def found() -> list[Mail]:
            return [mail for mail in self.messages(to) if after is None or mail.id > after]

        async with asyncio.timeout(timeout), self._changed:
            await self._changed.wait_for(lambda: len(found()) >= count)
            return found()

    def clear(self) -> None:
        """Forget all mails, and the failures still to come."""
        if self._directory:
            for mail in self._mails:
                (self._directory / f"{mail.id}.eml").unlink(missing_ok=True)
        self._mails.clear()
        self._failures.clear()

    def fail_next(self, code: int, times: int = 1) -> None:
        """Answer the next ``times`` RCPT commands with ``code`` (400 to 599)."""
        if not 400 <= code <= 599:
            raise ValueError("An SMTP failure has a code from 400 to 599.")
        self._failures.extend([code] * times)

    def next_failure(self) -> int | None:
        """The code that the RCPT command at hand must get; used up by asking."""
        return self._failures.pop(0) if self._failures else None

    async def keep(self, sender: str, recipients: list[str], raw: bytes) -> Mail:
        """Store a mail; it is on disk when this returns."""
        envelope = _Envelope(str(new_id()), datetime.now(UTC).isoformat(), sender, recipients)
        if self._directory:
            content = _ENVELOPE + json.dumps(asdict(envelope)).encode() + b"\r\n" + raw
            await asyncio.to_thread(replace_file, self._directory / f"{envelope.id}.eml", content)
        mail = _parse(envelope, raw)
        async with self._changed:
            self._mails.append(mail)
            self._changed.notify_all()
        return mail


class _Handler:
    """What aiosmtpd calls; its method names are its protocol."""

    def __init__(self, mailbox: Mailbox) -> None:
        self._mailbox = mailbox

    async def handle_RCPT(
        self, _server: SMTP, _session: Session, envelope: Envelope, address: str, _options: list[str]
    ) -> str:
        code = self._mailbox.next_failure()
        if code is not None:
            status = "5.1.1" if code >= 500 else "4.3.0"  # RFC 3463: no such mailbox; not now
            return f"{code} {status} Refused because a failure was asked for"
        envelope.rcpt_tos.append(address)
        return "250 2.1.5 OK"

    async def handle_DATA(self, _server: SMTP, _session: Session, envelope: Envelope) -> str:
        content = envelope.original_content or b""
        mail = await self._mailbox.keep(envelope.mail_from or "", list(map(str, envelope.rcpt_tos)), content)
        return f"250 2.0.0 Kept as {mail.id}"


def _load(directory: Path) -> list[Mail]:
    directory.mkdir(parents=True, exist_ok=True)
    mails: list[Mail] = []
    for path in sorted(directory.glob("*.eml")):
        head, _, raw = path.read_bytes().partition(b"\r\n")
        try:
            mails.append(_parse(_Envelope(**json.loads(head.removeprefix(_ENVELOPE))), raw))
        except (ValueError, TypeError):
            logging.getLogger(__name__).warning("not a mail of this mailbox, left alone: %s", path.name)
    return mails


def _parse(envelope: _Envelope, raw: bytes) -> Mail:
    message = BytesParser(policy=policy.default).parsebytes(raw)
    headers = tuple((name, _header(message, name, index)) for index, name in enumerate(message.keys()))
    return Mail(
        id=envelope.id,
        received_at=datetime.fromisoformat(envelope.received_at),
        sender=envelope.sender,
        recipients=tuple(envelope.recipients),
        subject=next((value for name, value in headers if name.lower() == "subject"), ""),
        headers=headers,
        text=_part(message, "plain") or "",
        html=_part(message, "html"),
        raw=raw,
    )


def _header(message: EmailMessage, name: str, index: int) -> str:
    try:
        return str(message.values()[index])
    except Exception:  # the standard library's header parser raises many kinds on hostile input
        return str(list(message.raw_items())[index][1])


def _part(message: EmailMessage, kind: str) -> str | None:
    part = message.get_body((kind,))  # pyright: ignore[reportArgumentType] - one of plain, html
    if part is None:
        return None
    try:
        return str(part.get_content())
    except (LookupError, ValueError):  # a charset that is unknown or does not fit
        payload = part.get_payload(decode=True)
        return payload.decode("utf-8", "replace") if isinstance(payload, bytes) else ""


def _not_found() -> ApiError:
    return ApiError("MAIL_NOT_FOUND", 404, "There is no such mail. It may have been deleted; see the list.")


def _shown_html(html: str) -> str:
    """The HTML part with links that open a window of their own: the frame itself shows the mail only."""
    end = next((place.end() for start in _DOCUMENT_STARTS if (place := start.search(html))), 0)
    return f'{html[:end]}<base target="_blank">{html[end:]}'


def _app(mailbox: Mailbox) -> FastAPI:
    app = demo_app("mailbox")

    def wanted(mail_id: str) -> Mail:
        mail = mailbox.message(mail_id)
        if mail is None:
            raise _not_found()
        return mail

    @app.get("/api/v1/messages")
    async def list_messages(
        to: str | None = None,
        after: str | None = None,
        wait: Annotated[float, Query(ge=0, le=MAX_WAIT_SECONDS)] = 0,
    ) -> dict[str, Any]:
        """Mails, oldest first; ``wait`` holds the answer until there is one (at most so many seconds)."""
        mails: list[Mail] = []
        with suppress(TimeoutError):
            mails = await mailbox.wait_for(to, 1 if wait else 0, max(wait, 1), after)
        return {"messages": [mail.summary() for mail in mails], "total": len(mails)}

    @app.get("/api/v1/messages/{mail_id}")
    async def get_message(mail_id: str) -> dict[str, Any]:
        """One mail with its parts and headers."""
        mail = wanted(mail_id)
        return {**mail.summary(), "headers": mail.headers, "text": mail.text, "html": mail.html}

    @app.delete("/api/v1/messages", status_code=204)
    async def delete_messages() -> None:
        """Forget all mails."""
        mailbox.clear()

    @app.get("/", include_in_schema=False)
    async def list_page(to: str = "") -> Response:
        mails = mailbox.messages(to.strip() or None)
        newest = mails[: -_SHOWN - 1 : -1]
        addresses = sorted({address for mail in mailbox.messages() for address in mail.recipients})
        return page("mailbox.html", mails=newest, total=len(mails), to=to.strip(), addresses=addresses)

    @app.post("/clear", include_in_schema=False)
    async def clear_page() -> Response:
        mailbox.clear()
        return RedirectResponse("/", 303)

    @app.get("/messages/{mail_id}", include_in_schema=False)
    async def mail_page(mail_id: str) -> Response:
        mail = mailbox.message(mail_id)
        if mail is None:
            return page("mailbox_missing.html", 404)
        return page("mail.html", 200, {"frame-src": "'self'"}, mail=mail, sandbox=_SANDBOX)

    @app.get("/messages/{mail_id}/html", include_in_schema=False)
    async def mail_html(mail_id: str) -> Response:
        html = wanted(mail_id).html
        if html is None:
            raise _not_found()
        headers = {"Content-Security-Policy": _MAIL_POLICY, "Referrer-Policy": "no-referrer"}
        return HTMLResponse(_shown_html(html), headers=headers)

    @app.get("/messages/{mail_id}/raw", include_in_schema=False)
    async def mail_raw(mail_id: str) -> Response:
        return PlainTextResponse(wanted(mail_id).raw)

    return app


def main(
    directory: Annotated[Path, typer.Option(help="Where mails are kept.")],
    smtp_port: Annotated[int, typer.Option(help="Port for SMTP.")] = 0,
    http_port: Annotated[int, typer.Option(help="Port for the page and the API.")] = 0,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
) -> None:
    """Run the mailbox until SIGTERM or SIGINT."""
    configure("mailbox")
    logging.getLogger("mail.log").setLevel(logging.ERROR)  # aiosmtpd logs every address at info
    asyncio.run(until_stopped(Mailbox.start(host, smtp_port, http_port, directory)))
