"""The demo: plays the main job against a running stack and tells each step with its measured time.

Everything is done from outside, as the people of the story would do it: through the portal, the mailbox, a
browser, plain TCP, and Kafka for the upstream service. It can be played again and again on the same state.
"""

import asyncio
import time
from collections.abc import Collection
from contextlib import AsyncExitStack
from dataclasses import dataclass

import httpx
from rich.console import Console
from rich.markup import escape

from contracts.base import new_id
from contracts.commands import CommandAccepted, RequestShare
from contracts.positions import format_positions
from devstack import seed
from devstack.demo_browser import Browser, Page
from devstack.demo_clients import (
    PATIENCE_SECONDS,
    RETRY_SECONDS,
    Letter,
    Person,
    Post,
    Upstream,
    open_tcp,
    post_at,
)
from devstack.demo_story import Story, StoryEnded, Unexpected
from devstack.process import StackError
from devstack.target import Whereabouts

_ECHO_BYTES = 4 * 1024 * 1024
_ANN, _BOB, _CAT, *_ = seed.ACCOUNTS
_DEVICE_NAMES = {device.device_id: device.name for device in seed.devices(seed.Targets("127.0.0.1", 1, 1, 1))}


@dataclass(frozen=True, slots=True)
class _Guest:
    """Somebody to share with: his program, his browser and his mail."""

    person: Person
    browser: Browser
    post: Post


@dataclass(frozen=True, slots=True)
class _Cast:
    """Who plays, and where."""

    story: Story
    status: Whereabouts
    ann: Person
    bob: _Guest
    cat: _Guest


async def run(status: Whereabouts, console: Console | None = None, *, stops: bool = False) -> int:
    """Play it on the stack that ``status`` describes; 0 when every step did what it says, else 1.

    ``stops``: the stack will be stopped afterwards, so that what is left is to be looked at on another start.
    """
    story = Story(console or Console(highlight=False))
    story.title(
        "Ann shares her devices, and takes them back",
        f"Portal {status.url('portal')} · mails {status.url('mailbox')} · sign-in {status.url('issuer')}",
    )
    try:
        async with AsyncExitStack() as stack:
            client = await stack.enter_async_context(httpx.AsyncClient(timeout=20, trust_env=False))
            cast = await _gather(story, status, client, stack)
            cut = await _main_job(cast)
            await _reject(cast)
            await _leave(cast)
            await _by_kafka(cast)
    except StoryEnded:
        return 1
    left = left_to_answer(status, cast.bob.person, stops=stops) if "kafka" in status.addresses else ""
    story.end(
        f"From “revoke accepted” to “socket closed”: [bold]{cut * 1000:.1f} ms[/bold].",
        left,
    )
    return 0


def left_to_answer(status: Whereabouts, person: Person, *, stops: bool) -> str:
    """Where the reader finds the invitation that is open still, with markup."""
    first = "run [bold]./latchkey up[/bold], then open" if stops else "open"
    return (
        f"One invitation to {escape(person.name)} is left for you: {first} the mail at "
        f"[bold]{status.url('mailbox')}[/bold] and answer it as {escape(person.email)}."
    )


async def _gather(
    story: Story, status: Whereabouts, client: httpx.AsyncClient, stack: AsyncExitStack
) -> _Cast:
    story.chapter("Before it begins")
    with story.step("Ann, Bob and Cat sign in; what an earlier demo left is taken back"):
        portal, mailbox = status.url("portal"), status.url("mailbox")
        ann, bob, cat = [
            Person(account, await status.token(account.verified_emails[0]), portal, client)
            for account in (_ANN, _BOB, _CAT)
        ]
        guests = [
            _Guest(
                person,
                await stack.enter_async_context(Browser()),
                await post_at(mailbox, person.email, client),
            )
            for person in (bob, cat)
        ]
        for guest in guests:
            for device_id in _DEVICE_NAMES:
                await ann.share(device_id, guest.person.email, "REMOVE")
            await _until_without(guest.person, _DEVICE_NAMES.keys())
            await guest.post.catch_up()
        missing = _DEVICE_NAMES.keys() - await ann.device_ids(None)
        if missing:
            raise StackError(f"Ann's demo devices {sorted(missing)} are not there. Begin anew: up --fresh.")
    return _Cast(story, status, ann, guests[0], guests[1])


async def _main_job(cast: _Cast) -> float:
    """Share, accept, connect, revoke, cut; the seconds from revoke to cut."""
    story, bob, device_id = cast.story, cast.bob, seed.WORKSHOP_PC
    story.chapter("1  A share is made, accepted, used and cut")
    letter, shared_at = await _invite(cast, bob, device_id)
    with story.step("Bob opens the link in the mail; he has to sign in to see more") as step:
        page = await bob.browser.open(letter.page.link("Accept"))
        if _DEVICE_NAMES[device_id] in page.words:
            raise Unexpected("A page without the device's name was expected for a stranger; it names it.")
        step.note("To a stranger the page says neither who shares nor what")
    with story.step("He signs in at the issuer and sees what he is offered"):
        page = await _sign_in(bob, page)
        _expect_words(page, cast.ann.name, _DEVICE_NAMES[device_id])
    with story.step("Opening the link has accepted nothing"):
        await _expect_device(bob, device_id, shared_at, there=False)
        if device_id not in await bob.person.invited_to(shared_at):
            raise Unexpected("The invitation was expected to wait for Bob still; it is not in his list.")
    with story.step("Bob presses Accept"):
        accepted_at = await _decide(bob, page, "accept")
    with story.step("The device is in his list"):
        await _expect_device(bob, device_id, accepted_at, there=True)
    with story.step("He asks for a connection to the service “Terminal (echo)”") as step:
        host, port = await _connect(bob.person, seed.ECHO, accepted_at)
        step.note(f"Any TCP client may now use {host}:{port}")
    async with open_tcp(host, port) as connection:
        with story.step(f"{_ECHO_BYTES // 1024**2} MiB of random bytes go there and come back") as step:
            digest = await connection.echo(_ECHO_BYTES)
            step.note(f"SHA-256 of what was sent and of what came back: {digest[:16]}…")
        with story.step("Ann takes the share back"):
            connection.watch()
            revoked_at = await cast.ann.share(device_id, bob.person.email, "REMOVE")
            accepted = time.monotonic()
        with story.step("Bob's open connection is cut: revoke accepted → socket closed") as step:
            cut = max(0.0, await connection.ended_at() - accepted)
            step.took(cut)
    with story.step("A new connection is refused, and the device has left his list") as step:
        answer = await bob.person.connect(seed.ECHO, None)
        if answer.code != "ACCESS_DENIED":
            raise Unexpected(f"A refusal ACCESS_DENIED was expected, this came: {answer.text[:400]}")
        await _expect_device(bob, device_id, revoked_at, there=False)
        step.note(f"{answer.code}: {answer.get('errors', 0, 'message')}")
    return cut


async def _reject(cast: _Cast) -> None:
    story, cat, device_id = cast.story, cast.cat, seed.RECORDER
    story.chapter("2  A share that is rejected")
    letter, _ = await _invite(cast, cat, device_id)
    with story.step("Cat opens the reject link, signs in and presses Reject"):
        page = await _sign_in(cat, await cat.browser.open(letter.page.link("Reject")))
        rejected_at = await _decide(cat, page, "reject")
    with story.step("She has neither the device nor the invitation"):
        await _expect_device(cat, device_id, rejected_at, there=False)
        if device_id in await cat.person.invited_to(rejected_at):
            raise Unexpected("The invitation was expected to be gone; it is in her list still.")


async def _leave(cast: _Cast) -> None:
    story, cat, device_id = cast.story, cast.cat, seed.RECORDER
    story.chapter("3  A share that its recipient gives back")
    letter, _ = await _invite(cast, cat, device_id)
    with story.step("Cat accepts this time; the recorder with its cameras is in her list"):
        page = await cat.browser.open(letter.page.link("Accept"))
        accepted_at = await _decide(cat, page, "accept")
        await _expect_device(cat, device_id, accepted_at, there=True)
    with story.step("She gives it back, and it is gone from her list"):
        left_at = await cat.person.share(device_id, cat.person.email, "LEAVE")
        await _expect_device(cat, device_id, left_at, there=False)


async def _by_kafka(cast: _Cast) -> None:
    story, bob, device_id = cast.story, cast.bob, seed.ALARM_PANEL
    story.chapter("4  A share made by another service, over Kafka")
    kafka = cast.status.addresses.get("kafka")
    if kafka is None:
        story.left_out("Not played: the broker of this stack is not to be reached from here.")
        return
    command = RequestShare(
        command_id=f"demo-{new_id()}",
        actor=cast.ann.account_id,
        device_ids=(device_id,),
        recipients=(bob.person.email,),
    )
    async with AsyncExitStack() as stack:
        with story.step("An upstream service gets ready to hear results"):
            upstream = await stack.enter_async_context(Upstream.start(kafka))
        with story.step("It sends RequestShare on share.commands; CommandAccepted answers it") as step:
            await upstream.send(command, device_id)
            result = await upstream.result(command.command_id)
            if not isinstance(result, CommandAccepted):
                raise Unexpected(f"CommandAccepted was expected, {result.code} came: {result.message}")
            step.note(f"Position {format_positions(result.positions)}")
    with story.step("The mail to Bob arrives") as step:
        letter = await bob.post.next()
        step.note(letter.subject)


async def _invite(cast: _Cast, guest: _Guest, device_id: str) -> tuple[Letter, str | None]:
    """Ann shares a device; its mail, and the position of the share."""
    story, name = cast.story, guest.person.name
    with story.step(f"Ann shares “{_DEVICE_NAMES[device_id]}” with {name}"):
        shared_at = await cast.ann.share(device_id, guest.person.email)
    with story.step(f"The mail to {name} arrives") as step:
        letter = await guest.post.next()
        step.note(letter.subject)
    return letter, shared_at


async def _until_without(person: Person, device_ids: Collection[str]) -> None:
    """Wait until none of the devices is in the list of ``person``; raises TimeoutError."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while True:
            if not await person.device_ids(None) & set(device_ids):
                return
            await asyncio.sleep(RETRY_SECONDS)


async def _sign_in(guest: _Guest, page: Page) -> Page:
    """Press the page's sign-in button and choose the account at the issuer; the page that follows."""
    choice = await guest.browser.open(page.link("Sign in"))
    return await guest.browser.press(choice, "account", guest.person.account_id)


async def _decide(guest: _Guest, page: Page, decision: str) -> str | None:
    """Answer the invitation on ``page``; the position of the answer."""
    after = await guest.browser.press(page, "decision", decision)
    _expect_words(after, "Accepted" if decision == "accept" else "Rejected")
    return httpx.URL(after.url).params.get("at")


async def _connect(person: Person, service_id: str, at: str | None) -> tuple[str, int]:
    answer = await person.connect(service_id, at)
    host, port = answer.get("data", "connect", "host"), answer.get("data", "connect", "port")
    if not isinstance(host, str) or not isinstance(port, int):
        raise Unexpected(f"A host and a port were expected, this came: {answer.text[:400]}")
    return host, port


async def _expect_device(guest: _Guest, device_id: str, at: str | None, *, there: bool) -> None:
    listed = await guest.person.device_ids(at)
    if (device_id in listed) is not there:
        state, seen = ("in", "is not") if there else ("not in", "is")
        raise Unexpected(
            f"“{_DEVICE_NAMES[device_id]}” was expected {state} the list of {guest.person.name}; it {seen}."
        )


def _expect_words(page: Page, *words: str) -> None:
    for word in words:
        if word not in page.words:
            raise Unexpected(f"A page with “{word}” was expected; it says: {page.excerpt()}")
