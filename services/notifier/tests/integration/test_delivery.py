"""One mail for each notice that is due and never two, whatever breaks between planning and sending."""

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from conftest import World

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]  # the first one also starts the servers


async def test_a_replay_from_the_start_sends_nothing_again(world: "World") -> None:
    first = await world.start()
    bob = await world.contact("bob@example.com")
    await world.invite(bob)
    await world.mails("bob@example.com")
    await world.settled(bob, "sent")
    first.kill()
    await first.process.wait()
    await world.pool.execute("delete from notifier.kafka_offset")
    await world.start(delivery_concurrency=1)
    await world.mails("bob@example.com")
    await world.marker()
    assert len(world.mailbox.messages("bob@example.com")) == 1


async def test_an_event_delivered_twice_is_told_once(world: "World") -> None:
    await world.start(delivery_concurrency=1)
    bob = await world.contact("bob@example.com")
    event = await world.invite(bob)
    world.versions[event.device_id] -= 1
    await world.event(event)  # the same place under another id
    await world.mails("bob@example.com")  # else the marker may overtake it while his address is on its way
    await world.marker()
    assert len(world.mailbox.messages("bob@example.com")) == 1


@pytest.mark.parametrize("place", [b"", b"DATA"], ids=["claimed", "before the message"])
async def test_a_killed_process_leaves_its_mail_to_the_next_one(world: "World", place: bytes) -> None:
    world.gate.close(place)
    first = await world.start()
    bob = await world.contact("bob@example.com")
    await world.invite(bob)
    await world.gate.reached.wait()
    first.kill()
    await first.process.wait()
    second = await world.start(smtp_port=world.mailbox.smtp_port, delivery_concurrency=1)
    await world.mails("bob@example.com")
    await world.settled(bob, "sent")
    second.kill()
    await second.process.wait()
    await world.start(smtp_port=world.mailbox.smtp_port, delivery_concurrency=1)
    await world.mails("bob@example.com")
    await world.marker()
    assert len(world.mailbox.messages("bob@example.com")) == 1


async def test_a_slow_mail_server_gets_the_mail_once_though_others_wait(world: "World") -> None:
    world.gate.close(b"DATA")
    await world.start(claim_seconds=1)
    bob = await world.contact("bob@example.com")
    await world.invite(bob)
    await world.gate.reached.wait()
    other = await world.start(claim_seconds=1, smtp_port=world.mailbox.smtp_port, delivery_concurrency=1)
    due = (await world.deliveries(bob))[0]["due_at"]

    async def held_beyond_its_claim() -> bool:
        return bool(
            await world.pool.fetchval(
                "select now() > $1::timestamptz + interval '1 second' and due_at > now()"
                " from notifier.delivery join notifier.notice using (notice_id) where contact_id = $2",
                due,
                bob,
            )
        )

    await world.until(held_beyond_its_claim)
    assert other.process.returncode is None
    world.gate.open()
    await world.mails("bob@example.com")
    await world.settled(bob, "sent")
    await world.marker()
    assert len(world.mailbox.messages("bob@example.com")) == 1


async def test_two_instances_share_the_work_and_double_nothing(world: "World") -> None:
    await world.start()
    await world.start()
    addresses = [f"friend-{number}@example.com" for number in range(40)]
    for number, address in enumerate(addresses):
        device = f"cam-{100 + number % 8}"
        await world.device(device, "Camera")
        await world.invite(await world.contact(address), device_id=device)
    for address in addresses:
        await world.mails(address)
    await world.marker()
    received = [mail.recipients[0] for mail in world.mailbox.messages()]
    assert sorted(one for one in received if one.startswith("friend")) == sorted(addresses)


async def test_a_mail_refused_for_now_is_sent_later(world: "World") -> None:
    world.mailbox.fail_next(451, 2)
    await world.start()
    bob = await world.contact("bob@example.com")
    await world.invite(bob)
    await world.mails("bob@example.com")
    assert (await world.settled(bob, "sent"))["attempts"] == 3


async def test_a_lost_connection_is_tried_again(world: "World") -> None:
    world.gate.drop = 2
    notifier = await world.start()
    bob = await world.contact("bob@example.com")
    await world.invite(bob)
    await world.mails("bob@example.com")
    assert (await world.settled(bob, "sent"))["attempts"] == 3
    assert {line["code"] for line in notifier.lines() if line["event"] == "notice_put_off"} == {
        "SMTP_UNREACHABLE"
    }


async def test_an_address_refused_for_good_is_not_tried_again(world: "World") -> None:
    world.mailbox.fail_next(550)
    await world.start(delivery_concurrency=1)
    bob = await world.contact("bob@example.com")
    await world.invite(bob)
    refused = await world.settled(bob, "failed")
    assert refused["code"] == "RECIPIENT_REFUSED"
    await world.marker()
    assert world.mailbox.messages("bob@example.com") == []
    assert await world.settled(bob, "failed") == refused


async def test_a_mail_that_cannot_be_handed_over_fails_in_the_end(world: "World") -> None:
    world.mailbox.fail_next(451, 1000)
    await world.start(give_up_seconds=0.5)
    bob = await world.contact("bob@example.com")
    await world.invite(bob)
    assert (await world.settled(bob, "failed"))["code"] == "SMTP_DEFERRED"


async def test_the_one_window_of_smtp_gives_a_repeat_that_can_be_recognised(world: "World") -> None:
    world.gate.lose_answers = 1
    await world.start()
    bob = await world.contact("bob@example.com")
    await world.invite(bob)
    first, second = await world.mails("bob@example.com", 2)
    assert first.header("Message-ID") == second.header("Message-ID")
    await world.settled(bob, "sent")


async def test_lost_database_connections_stop_nothing(world: "World") -> None:
    await world.start(delivery_concurrency=1)
    await world.marker()
    cut = await world.pool.fetchval(
        "select count(pg_terminate_backend(pid)) from pg_stat_activity"
        " where datname = current_database() and usename = 'notifier'"
    )
    assert cut > 0
    await world.marker()

    async def listening_again() -> bool:
        return bool(
            await world.pool.fetchval(
                "select count(*) from pg_stat_activity"
                " where datname = current_database() and usename = 'notifier' and query ilike 'listen%'"
            )
        )

    await world.until(listening_again)
    received = [mail.recipients for mail in world.mailbox.messages()]
    assert len(received) == len(set(received)) == 2
