"""What people get, through the real process: once, with what it must say, or not at all."""

import re
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING
from uuid import uuid4

import asyncpg
import pytest
from share_events import accepted

from contracts import codec, topics
from contracts.directory import ContactSnapshot
from contracts.events import (
    InvitationResent,
    RevokeReason,
    ShareAccepted,
    ShareChanged,
    ShareExpired,
    ShareRequested,
    ShareRevoked,
)
from contracts.links import read_link
from contracts.permissions import Permission, SomeServices, Terms
from devstack.smtp import Mail
from notifier.consumer import Consumer as NotifierConsumer
from notifier.metrics import Metrics
from notifier.store.outward import Store
from servicekit.kafka import Consumer, DeadLetters, Partition, Record

if TYPE_CHECKING:
    from conftest import World

SECRET = "a-secret-for-tests-of-forty-characters-xx"
LINK = re.compile(r"http://127\.0\.0\.1:8080/invitations/([^\s\"]+)")
WAITS = "notice_waits_for_facts"

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]  # the first one also starts the servers


def links(mail: Mail, secret: str = SECRET) -> list[tuple[str, int]]:
    """Purpose and invitation version of the links, the same in both parts."""
    assert mail.html is not None
    tokens = LINK.findall(mail.text)
    assert tokens == LINK.findall(mail.html)
    read = [read_link(token, secret, datetime.now(UTC)) for token in tokens]
    return [(link.purpose, link.invitation_version) for link in read]


def revoked(event: ShareRequested) -> ShareRevoked:
    return ShareRevoked(
        share_id=event.share_id,
        device_id=event.device_id,
        contact_id=event.contact_id,
        owner_account_id=event.owner_account_id,
        reason=RevokeReason.BY_OWNER,
    )


async def test_an_invitation_arrives_with_names_terms_and_links_that_verify(world: "World") -> None:
    notifier = await world.start()
    bob = await world.contact("bob@example.com")
    terms = Terms(scope=SomeServices(services={"s1": frozenset({Permission.LIVE_VIEW})}))
    await world.invite(bob, terms=terms, correlation="request-17")

    (mail,) = await world.mails("bob@example.com")

    assert mail.subject == "Ann Example wants to share Front door with you"
    assert mail.html is not None
    for said in ("Ann Example", "Front door", "Porch", "watch live"):
        assert said in mail.text
        assert said in mail.html
    assert links(mail) == [("accept", 1), ("reject", 1)]
    assert mail.header("X-Latchkey-Correlation-Id") == "request-17"
    assert mail.header("Auto-Submitted") == "auto-generated"
    assert mail.sender == "no-reply@example.com"

    assert (await world.settled(bob, "sent"))["attempts"] == 1
    notifier.process.terminate()
    assert await notifier.process.wait() == 0
    told = {line["event"]: line.get("correlation_id") for line in notifier.lines()}
    assert told["notice_planned"] == told["notice_sent"] == "request-17"
    log = notifier.log.read_text()
    assert "@example.com" not in log
    assert not any(token in log for token in LINK.findall(mail.text))
    assert SECRET not in log


async def test_nobody_is_told_when_the_owner_does_not_want_it(world: "World") -> None:
    await world.start(delivery_concurrency=1)
    bob = await world.contact("bob@example.com")
    await world.invite(bob, notify=False)
    await world.marker()
    assert world.mailbox.messages("bob@example.com") == []
    assert [row["state"] for row in await world.deliveries(bob)] == ["inbox"]


async def test_a_changed_invitation_is_told_again_with_the_new_terms(world: "World") -> None:
    await world.start()
    bob = await world.contact("bob@example.com")
    event = await world.invite(bob)
    await world.mails("bob@example.com")
    await world.event(
        ShareChanged(
            share_id=event.share_id,
            device_id=event.device_id,
            contact_id=bob,
            owner_account_id="ann",
            state="requested",
            terms=Terms(scope=SomeServices(services={"s2": "all"})),
        )
    )
    _, second = await world.mails("bob@example.com", 2)
    assert "changed" in second.subject
    assert "SSH" in second.text
    assert links(second) == [("accept", 2), ("reject", 2)]


async def test_an_invitation_taken_back_before_its_mail_went_out_is_not_sent(world: "World") -> None:
    await world.start(delivery_concurrency=1)
    bob = uuid4()
    event = await world.invite(bob)  # no address yet: it waits
    await world.until(lambda: _waits(world, bob))
    await world.event(revoked(event))
    await world.contact("bob@example.com", bob)
    wanted = {"invitation": ("superseded", 0), "revoked": ("inbox", 0)}  # of nothing nobody need be told

    async def decided() -> bool:  # only once his address has come, on a topic of its own
        told = {row["template"]: (row["state"], row["attempts"]) for row in await world.deliveries(bob)}
        return told == wanted

    await world.until(decided)
    await world.marker()
    assert world.mailbox.messages("bob@example.com") == []


async def test_an_invitation_is_told_again_when_the_owner_asks_and_once_for_each_time(
    world: "World",
) -> None:
    await world.start()
    bob = await world.contact("bob@example.com")
    event = await world.invite(bob)
    await world.mails("bob@example.com")
    ends = datetime.now(UTC).replace(microsecond=0) + timedelta(days=3)
    again = await world.event(
        InvitationResent(
            share_id=event.share_id,
            device_id=event.device_id,
            contact_id=bob,
            owner_account_id="ann",
            expires_at=ends,
        )
    )
    _, second = await world.mails("bob@example.com", 2)
    assert links(second) == [("accept", 1), ("reject", 1)]
    token = LINK.findall(second.text)[0]
    assert read_link(token, SECRET, datetime.now(UTC)).ends_at == ends
    await world.publish(topics.SHARE_EVENTS, "cam-1", again)
    await world.marker()
    assert len(world.mailbox.messages("bob@example.com")) == 2


async def test_telling_again_what_was_never_heard_of_stops_nobody(world: "World") -> None:
    await world.start()
    bob = await world.contact("bob@example.com")
    await world.event(
        InvitationResent(share_id=uuid4(), device_id="cam-1", contact_id=bob, owner_account_id="ann")
    )
    await world.marker()
    assert await world.deliveries(bob) == []


async def test_who_accepts_by_a_rule_gets_no_invitation(world: "World") -> None:
    bob = await world.contact("bob@example.com")
    event = await world.invite(bob)
    await world.event(
        ShareAccepted(
            share_id=event.share_id,
            device_id=event.device_id,
            contact_id=bob,
            owner_account_id="ann",
            account_id="bob",
            automatic=True,
        )
    )
    await world.start(delivery_concurrency=1)  # it finds both, together
    await world.marker()
    await world.settled(bob, "superseded")
    assert world.mailbox.messages("bob@example.com") == []


@pytest.mark.parametrize("how", ["told by an event", "by the clock"])
async def test_an_invitation_that_has_expired_is_not_sent(world: "World", how: str) -> None:
    bob = await world.contact("bob@example.com")
    told = how == "told by an event"
    event = await world.invite(bob, expires_at=None if told else datetime.now(UTC) - timedelta(seconds=1))
    if told:
        await world.event(
            ShareExpired(share_id=event.share_id, device_id="cam-1", contact_id=bob, owner_account_id="ann")
        )
    await world.start(delivery_concurrency=1)
    await world.marker()
    await world.settled(bob, "superseded" if told else "expired")
    assert world.mailbox.messages("bob@example.com") == []


async def test_who_was_invited_by_telephone_cannot_be_told_yet_and_holds_up_nobody(world: "World") -> None:
    notifier = await world.start(delivery_concurrency=1)
    bob = await world.contact("tel:+4915112345678")
    await world.invite(bob, device_id="cam-9")  # nothing else about it has arrived
    await world.marker()
    row = await world.settled(bob, "failed")
    assert (row["code"], row["attempts"]) == ("NO_CHANNEL", 0)
    log = notifier.log.read_text()
    assert any(line["event"] == "notice_failed" and line["code"] == "NO_CHANNEL" for line in notifier.lines())
    assert "4915112345678" not in log


async def _waits(world: "World", contact_id: object) -> bool:
    return bool(
        await world.pool.fetchval("select waits > 0 from notifier.notice where contact_id = $1", contact_id)
    )


async def test_names_that_arrive_later_are_waited_for_and_a_long_wait_alarms(world: "World") -> None:
    notifier = await world.start(facts_alarm_seconds=0.2)
    bob = uuid4()
    await world.invite(bob, device_id="cam-9")
    await world.until(lambda: _waits(world, bob))

    async def alarmed() -> bool:
        return await notifier.metric("deliveries_long_without_facts") == 1

    async def logged() -> bool:
        return any(line["level"] == "error" and line["event"] == WAITS for line in notifier.lines())

    await world.until(alarmed)
    await world.until(logged)
    await world.device("cam-9", "Back door")
    await world.contact("bob@example.com", bob)
    (mail,) = await world.mails("bob@example.com")
    assert "Back door" in mail.text

    async def calm() -> bool:
        return await notifier.metric("deliveries_long_without_facts") == 0

    await world.until(calm)
    waits = [line for line in notifier.lines() if line["event"] == WAITS]
    assert {"contact", "device"} <= set(waits[0]["missing"])


async def test_hostile_names_reach_the_reader_as_plain_words(world: "World") -> None:
    await world.start()
    await world.device("cam-2", "\x01<b>cam</b>\r\nBcc: eve@example.com https://evil.example/x" + "y" * 4000)
    bob = await world.contact("bob@example.com")
    await world.invite(bob, device_id="cam-2")
    (mail,) = await world.mails("bob@example.com")
    assert mail.recipients == ("bob@example.com",)
    assert mail.header("Bcc") is None
    assert mail.html is not None
    assert "&lt;b&gt;cam&lt;/b&gt;" in mail.html
    assert "evil.example" not in mail.text + mail.html + mail.subject
    assert len(links(mail)) == 2


async def dead_letters(world: "World", count: int) -> list[Record]:
    """The dead letters once there are ``count``."""

    async def nothing(_: set[Partition]) -> None:
        return None

    found: list[Record] = []
    topic = world.prefix + topics.dead_letters("notifier").name
    async with Consumer(
        world.bootstrap, group=f"{world.prefix}reader", topics=[topic], assigned=nothing, revoked=nothing
    ) as consumer:

        async def enough() -> bool:
            for records in (await consumer.getmany(timeout_ms=200, max_records=100)).values():
                found.extend(records)
            return len(found) >= count

        await world.until(enough)
    return found


async def test_what_cannot_be_read_is_set_aside_and_the_next_is_served(world: "World") -> None:
    await world.start()
    bob = await world.contact("bob@example.com")
    await world.publish(topics.SHARE_EVENTS, "cam-1", b"{not json")
    await world.publish(topics.SHARE_EVENTS, "cam-1", b'{"id":"x","type":"latchkey.ShareSold.v1"}')
    await world.publish(topics.SHARE_EVENTS, "cam-1", None)
    await world.publish(topics.DIRECTORY_DEVICES, "cam-1", b"[]")
    await world.publish(topics.DIRECTORY_CONTACTS, "no-uuid", None)
    await world.invite(bob)
    await world.mails("bob@example.com")
    letters = await dead_letters(world, 5)
    by_value = {letter.value: dict(letter.headers) for letter in letters}
    assert by_value[b"{not json"]["latchkey-error-code"] == b"MALFORMED"
    assert by_value[b"{not json"]["latchkey-source-topic"] == f"{world.prefix}share.events".encode()
    codes = sorted((dict(letter.headers)["latchkey-error-code"] or b"").decode() for letter in letters)
    assert codes == ["INVALID_KEY", "MALFORMED", "MALFORMED", "MALFORMED", "MALFORMED"]


async def test_events_without_a_usable_place_or_id_are_set_aside(world: "World") -> None:
    await world.start()
    bob = await world.contact("bob@example.com")
    good = await world.event(
        ShareRequested(
            share_id=uuid4(),
            device_id="cam-1",
            contact_id=bob,
            owner_account_id="ann",
            terms=Terms(scope=SomeServices(services={"s1": "all"})),
        )
    )
    await world.publish(topics.SHARE_EVENTS, "cam-1", good.replace(b'"version":1', b'"version":' + b"9" * 30))
    await world.publish(topics.SHARE_EVENTS, "cam-1", good.replace(b'"version":1', b'"other":1'))
    never = b'"notify":true,"expires_at":"9999-12-31T23:59:59-10:00"'
    await world.publish(topics.SHARE_EVENTS, "cam-1", good.replace(b'"notify":true', never))
    await world.publish(topics.SHARE_EVENTS, "cam-1", re.sub(rb'"id":"[^"]+"', b'"id":"x"', good, count=1))
    await world.mails("bob@example.com")
    codes = {dict(letter.headers)["latchkey-error-code"] for letter in await dead_letters(world, 4)}
    assert codes == {b"INVALID_VERSION", b"INVALID_EVENT_ID", b"INVALID_DATA"}
    await world.marker()
    assert len(world.mailbox.messages("bob@example.com")) == 1


async def test_what_was_erased_and_came_again_in_one_batch_begins_anew(world: "World") -> None:
    """An erased address takes what was chosen for it along, though its contact is told again at once."""
    pool = await asyncpg.create_pool(world.database.dsn("notifier"), min_size=1, max_size=1)
    dead_letters = DeadLetters(world.producer, topics.dead_letters("notifier").name)
    consumer = NotifierConsumer(
        store=Store(pool), dead_letters=dead_letters, metrics=Metrics(), topic_prefix=world.prefix
    )
    contact = uuid4()
    topic = world.prefix + topics.DIRECTORY_CONTACTS.name

    def record(address: str | None) -> Record:
        value = None
        if address is not None:
            snapshot = ContactSnapshot(contact_id=contact, address=address)
            value = codec.encode(codec.envelope(snapshot, source="test", time=datetime.now(UTC)))
        return Record(topic, 0, 0, str(contact).encode(), value, (), 0)

    async with pool, pool.acquire() as connection:
        await consumer.apply(connection, [record("mailto:old@example.com"), record("mailto:bob@example.com")])
        await connection.execute(
            "insert into preference values ($1, 'invitation', 'email', false)", str(contact)
        )
        await consumer.apply(connection, [record(None), record("mailto:new@example.com")])
        assert await connection.fetchval("select address from contact") == "mailto:new@example.com"
        assert await connection.fetchval("select count(*) from preference") == 0
        await consumer.apply(connection, [record("mailto:newer@example.com"), record(None)])
        assert await connection.fetchval("select count(*) from contact") == 0


async def test_of_an_account_that_was_deleted_nothing_is_kept_any_more(world: "World") -> None:
    """Neither what was there, nor what still comes in its name, until its registry has it again."""
    one = await world.start()
    chosen = {"language": "de", "wanted": {"invitation": {"email": False}}}

    async def keeps() -> list[int]:
        return [
            (await world.ask(one, "ann", "PUT", "preferences", json=chosen)).status_code,
            (await world.ask(one, "ann", "GET", "inbox")).status_code,
        ]

    async def kept() -> bool:
        tables = ("account", "account_setting", "push_subscription", "notice")
        rows = [f"(select count(*) from notifier.{name} where account_id = 'ann')" for name in tables]
        rows.append("(select count(*) from notifier.preference where reader = 'account ann')")
        return bool(await world.pool.fetchval(f"select {' + '.join(rows)}"))

    async def refused() -> bool:
        return await keeps() == [403, 403]

    async def nothing() -> bool:
        return not await kept()

    await world.account("ann", "Ann", "ann@example.com")
    await world.device("cam-1", "Camera")
    invited = await world.invite(await world.contact("bob@example.com"))
    assert await keeps() == [204, 200]
    assert await kept()
    await world.publish(topics.DIRECTORY_ACCOUNTS, "ann", None)
    await world.until(refused)
    await world.until(nothing)
    await world.event(accepted(invited))

    async def planned() -> bool:
        return await world.pool.fetchval(
            "select last_version = 2 from notifier.device_progress where device_id = 'cam-1'"
        )

    await world.until(planned)
    assert not await kept(), "what follows for its shares is told nobody"
    await world.account("ann", "Ann", "ann@example.com")

    async def welcome() -> bool:
        return await keeps() == [204, 200]

    await world.until(welcome)
