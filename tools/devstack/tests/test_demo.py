"""The demo's people see what is there, and the demo stops at what is not."""

import asyncio
import smtplib
from contextlib import suppress
from datetime import UTC, datetime
from email.message import EmailMessage
from pathlib import Path

import httpx
import pytest
from fastapi.responses import HTMLResponse
from rich.console import Console

from contracts.base import new_id
from contracts.codec import encode, envelope
from contracts.commands import CommandAccepted, CommandRefused, RequestShare
from contracts.positions import Position
from contracts.topics import COMMAND_RESULTS, SHARE_COMMANDS
from devstack import targets
from devstack.demo import run
from devstack.demo_browser import Browser, Page
from devstack.demo_clients import Answer, Post, Upstream, open_tcp, post_at
from devstack.demo_http import demo_app, http_url, listen, port_of, serving
from devstack.demo_story import Story, StoryEnded, Unexpected
from devstack.issuer import Client, IssuerServer
from devstack.smtp import Mailbox
from devstack.status import Status
from servicekit.kafka import Admin, KafkaException, Producer

INVITATION = """<!doctype html><title>not words</title><style>a{}</style>
<form action="/out"><input type=hidden name=csrf value=other><button>Sign out</button></form>
<p>Ann shares <b>Workshop PC</b></p>
<a href="/auth/login?next=%2F">Sign in to see it</a>
<form method="post" action="/invitations/t"><input type="hidden" name="csrf" value="c&amp;1">
<button name="decision" value="accept">Accept</button>
<button name="decision" value="reject">No</button></form>
"""


def test_a_page_is_read_as_a_person_reads_it() -> None:
    page = Page(INVITATION, "http://portal.test/invitations/t")
    assert page.words == "Sign out Ann shares Workshop PC Sign in to see it Accept No"
    assert page.link("Sign in") == "http://portal.test/auth/login?next=%2F"
    form = page.form("decision", "reject")
    assert (form.action, form.fields) == ("/invitations/t", {"csrf": "c&1"})


def test_what_a_page_lacks_is_told_with_its_words() -> None:
    page = Page("<p>This invitation has ended")
    with pytest.raises(Unexpected, match="This invitation has ended"):
        page.link("Accept")
    with pytest.raises(Unexpected, match="This invitation has ended"):
        page.form("decision", "accept")


async def test_a_browser_signs_in_at_the_issuer_and_comes_back() -> None:
    app, sock = demo_app("client"), listen("127.0.0.1", 0)
    home = http_url("127.0.0.1", port_of(sock))

    @app.get("/auth/callback")
    async def callback(code: str, state: str) -> HTMLResponse:
        return HTMLResponse(f"<p>{state} {len(code) > 20}")

    client = Client("portal", "secret", (f"{home}/auth/callback",))
    async with serving(app, sock), IssuerServer.start(clients=[client]) as issuer, Browser() as browser:
        address = httpx.URL(
            f"{issuer.url}/authorize",
            params={
                "client_id": "portal",
                "redirect_uri": f"{home}/auth/callback",
                "response_type": "code",
                "scope": "openid",
                "state": "s1",
                "code_challenge": "c" * 43,
                "code_challenge_method": "S256",
            },
        )
        choice = await browser.open(str(address))
        assert (await browser.press(choice, "account", "bob")).words == "s1 True"
        with pytest.raises(Unexpected, match="HTTP 404"):
            await browser.open(f"{home}/nothing")


async def test_the_next_invitation_is_one_that_came_after_the_last() -> None:
    def send(mailbox: Mailbox, subject: str) -> None:
        message = EmailMessage()
        message["From"], message["To"], message["Subject"] = "a@b.test", "bob@example.test", subject
        message.set_content("text")
        message.add_alternative("<a href='http://portal.test/i/1'>Accept</a>", subtype="html")
        with smtplib.SMTP(mailbox.smtp_host, mailbox.smtp_port) as connection:
            connection.send_message(message)

    async with Mailbox.start() as mailbox, httpx.AsyncClient(timeout=20) as client:
        post = Post(mailbox.http_url, "bob@example.test", client)
        await post.catch_up()
        await asyncio.to_thread(send, mailbox, "Ann wants to share the old")
        await post.catch_up()
        coming = asyncio.create_task(post.next())
        await asyncio.to_thread(send, mailbox, "Bob took it back")
        await asyncio.to_thread(send, mailbox, "Ann wants to share the new")
        letter = await coming
        assert letter.subject == "Ann wants to share the new"
        assert letter.page.link("Accept") == "http://portal.test/i/1"


async def test_mail_is_read_from_mailpit_too() -> None:
    """Its API v1: mails by search, the newest first; no answer waits."""
    subjects = ["Ann wants to share the old"]

    def mailpit(request: httpx.Request) -> httpx.Response:
        match request.url.path.removeprefix("/api/v1/").split("/"):
            case ["info"]:
                return httpx.Response(200, json={"Version": "v1.27.11"})
            case ["search"]:
                assert request.url.params["query"] == 'to:"bob@example.test"'
                found = [{"ID": str(index)} for index in range(len(subjects))][::-1]
                return httpx.Response(200, json={"messages": found})
            case ["message", number]:
                html = "<a href='http://portal.test/i/1'>Accept</a>"
                return httpx.Response(
                    200, json={"ID": number, "Subject": subjects[int(number)], "HTML": html}
                )
            case _:
                return httpx.Response(404)

    async with httpx.AsyncClient(transport=httpx.MockTransport(mailpit)) as client:
        post = await post_at("http://mailpit.test", "bob@example.test", client)
        await post.catch_up()
        coming = asyncio.create_task(post.next())
        await asyncio.sleep(0)
        subjects += ["Bob took it back", "Ann wants to share the new"]
        letter = await coming
    assert letter.subject == "Ann wants to share the new"
    assert letter.page.link("Accept") == "http://portal.test/i/1"


async def test_other_bytes_than_were_sent_are_noticed() -> None:
    async def liar(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65_536):
            writer.write(bytes(len(data)))
        writer.close()

    async with await asyncio.start_server(liar, "127.0.0.1") as server:
        port = server.sockets[0].getsockname()[1]
        async with open_tcp("127.0.0.1", port) as connection:
            with pytest.raises(Unexpected, match="not the same"):
                await connection.echo(1000)


async def test_bytes_are_compared_and_a_cut_is_seen() -> None:
    async with targets.start() as found:
        async with open_tcp(found.host, found.echo_port) as connection:
            assert len(await connection.echo(300_000)) == 64
        async with open_tcp(found.host, found.camera_port) as connection:
            with pytest.raises((Unexpected, ConnectionError)):
                await connection.echo(300_000)
        last = open_tcp(found.host, found.echo_port)
        connection = await last.__aenter__()
        connection.watch()
    assert await connection.ended_at() > 0
    await last.__aexit__(None, None, None)


@pytest.fixture
async def commands(kafka_bootstrap: str) -> str:
    config: dict[str, str] = {}
    names = (SHARE_COMMANDS.name, COMMAND_RESULTS.name)
    admin = Admin(kafka_bootstrap)
    await admin.provision((name, 2, config) for name in names)
    async with asyncio.timeout(20):
        while True:  # a new topic has no leader at first
            with suppress(KafkaException):
                await admin.end_offsets(await admin.partitions(names))
                return kafka_bootstrap
            await asyncio.sleep(0.02)


async def test_the_result_of_ones_own_command_is_found(commands: str) -> None:
    own = f"demo-{new_id()}"
    others = CommandRefused(command_id="other", code="CONFLICT", message="x")
    accepted = CommandAccepted(command_id=own, positions=(Position("dev-1", 1),))
    request = RequestShare(command_id=own, actor="ann", device_ids=("dev-1",), recipients=("b@example.test",))
    async with Upstream.start(commands) as upstream, Producer(commands, "test") as producer:
        await upstream.send(request, "dev-1")
        for data in (others, accepted):
            message = envelope(data, source="share-command", time=datetime.now(UTC))
            await producer.send(COMMAND_RESULTS.name, "dev-1", encode(message))
        assert await upstream.result(own) == accepted


def test_an_answer_of_another_form_has_nothing_at_a_path() -> None:
    answer = Answer("", {"data": None, "errors": [{"extensions": {"code": "ACCESS_DENIED"}}]}, None)
    assert answer.get("data", "login", "devices") is None
    assert answer.code == "ACCESS_DENIED"
    assert Answer("", {"errors": []}, None).code is None


def told(story: Story) -> str:
    return story.console.export_text()


@pytest.fixture
def story() -> Story:
    return Story(Console(record=True, width=100, quiet=False, force_terminal=False))


def test_a_step_is_told_with_its_time_and_notes(story: Story) -> None:
    with story.step("Ann shares [odd] things") as step:
        step.note("a note")
        step.took(0.0042)
    story.end("done")
    text = told(story)
    assert "✓ Ann shares [odd] things" in text
    assert "4.2 ms" in text
    assert "a note" in text
    assert "All 1 steps did what they say" in text


@pytest.mark.parametrize(
    ("error", "seen"),
    [
        (Unexpected("A mail was expected; none came."), "none came"),
        (TimeoutError(), "did not happen in time"),
        (httpx.ConnectError("x"), "ConnectError"),
        (KeyError("host"), "another form"),
    ],
)
def test_a_failing_step_ends_the_story_and_says_what_was_seen(
    story: Story, error: Exception, seen: str
) -> None:
    with pytest.raises(StoryEnded), story.step("The mail arrives"):
        raise error
    text = told(story)
    assert "✗ The mail arrives" in text
    assert seen in text
    assert story.steps == 0


async def test_a_stack_that_does_not_answer_fails_the_demo(tmp_path: Path) -> None:
    with listen("127.0.0.1", 0) as sock:
        nobody = f"127.0.0.1:{port_of(sock)}"
    names = ("portal", "mailbox", "issuer", "registry", "kafka")
    status = Status(pid=1, state=tmp_path, ready=True, addresses=dict.fromkeys(names, nobody), processes=[])
    console = Console(record=True, width=100)
    assert await run(status, console) == 1
    assert "✗ Ann, Bob and Cat sign in" in console.export_text()
