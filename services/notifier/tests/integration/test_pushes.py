"""Through whole processes: pushes to apps, push services that refuse us, quiet hours, and what failed tried
again."""

import json
import subprocess
import sys
from collections.abc import AsyncGenerator
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

import pytest
from providers import Browser, Providers, running

from contracts.events import RevokeReason, ShareAccepted, ShareRejected, ShareRequested, ShareRevoked
from devstack.keys import new_internal_key

if TYPE_CHECKING:
    from conftest import Running, World

pytestmark = [pytest.mark.slow, pytest.mark.timeout(150)]  # the first one also starts the servers

Answer = tuple[int, dict[str, str], Any]


@pytest.fixture
async def providers() -> AsyncGenerator[Providers]:
    async with running() as found:
        yield found


async def subscribed(world: "World", one: "Running", body: dict[str, Any]) -> None:
    await world.account("bob", "Bob", "bob@example.com")
    assert (await world.ask(one, "bob", "POST", "push-subscriptions", json=body)).status_code == 201


async def gone(world: "World", one: "Running") -> None:
    """Wait until Bob has no subscription any more."""

    async def forgotten() -> bool:
        return (await world.ask(one, "bob", "GET", "push-subscriptions")).json()["items"] == []

    await world.until(forgotten)


def answered(event: ShareRequested, accepts: bool) -> ShareAccepted | ShareRejected:
    if accepts:
        return ShareAccepted(**_about(event), account_id="bob")
    return ShareRejected(**_about(event), account_id="bob")


def _about(event: ShareRequested) -> dict[str, Any]:
    return {
        name: getattr(event, name) for name in ("share_id", "device_id", "contact_id", "owner_account_id")
    }


async def test_an_app_is_told_and_forgotten_when_it_is_gone(world: "World", providers: Providers) -> None:
    account = world.directory / "account.json"
    account.write_text(providers.service_account())
    one = await world.start(fcm_account_file=account, fcm_url=providers.url)
    await subscribed(world, one, {"fcm_token": "token-of-bobs-app"})
    bob = await world.contact("bob@example.com")
    event = await world.invite(bob)
    (asked,) = await providers.until(1, "/v1/projects/")
    assert asked["path"] == "/v1/projects/latchkey-test/messages:send"
    assert asked["headers"]["authorization"] == "Bearer token-1"
    message = json.loads(asked["body"])["message"]
    assert message["token"] == "token-of-bobs-app"
    assert message["notification"]["title"] == "Ann Example wants to share Front door with you"
    assert (message["data"]["share_id"], message["data"]["kind"]) == (str(event.share_id), "invitation")
    assert "/invitations/" in message["data"]["url"]
    assert message["android"]["priority"] == "NORMAL"

    unregistered = {"error": {"details": [{"errorCode": "UNREGISTERED"}]}}
    providers.answers += [(503, {}, None), (404, {}, unregistered)]  # later, and then never more
    await world.device("cam-2", "Gate")
    await world.invite(bob, device_id="cam-2")
    await gone(world, one)
    assert len(await providers.until(3, "/v1/projects/")) == 3
    await world.mails("bob@example.com", 2)  # by mail he is told all the same


async def test_a_push_service_that_refuses_us_three_times_in_a_row_is_left(
    world: "World", providers: Providers
) -> None:
    one = await world.start(
        push_key=new_internal_key()[0],
        push_contact="mailto:ops@example.com",
        push_hosts=json.dumps([providers.address]),
    )
    await subscribed(world, one, {"endpoint": f"{providers.url}/push/bob", "keys": Browser().keys})
    refused: Answer = (403, {}, None)
    providers.answers += [refused, refused, (201, {}, None)]
    bob = await world.contact("bob@example.com")
    await world.invite(bob)
    await providers.until(3, "/push/bob")
    await world.mails("bob@example.com")

    async def accepted() -> bool:
        return await world.pool.fetchval("select refusals from notifier.push_subscription") == 0

    await world.until(accepted)  # it counts anew
    providers.answers += [refused] * 3
    await world.device("cam-2", "Gate")
    await world.invite(bob, device_id="cam-2")
    await gone(world, one)
    assert len(await providers.until(6, "/push/bob")) == 6

    async def told() -> bool:
        states = await world.pool.fetch(
            "select state, code from notifier.delivery where channel = 'web_push' order by created_at"
        )
        return [tuple(row) for row in states] == [("sent", None), ("failed", "SUBSCRIPTION_GONE")]

    await world.until(told)


async def test_quiet_hours_put_off_what_is_no_security_notice_until_they_end(world: "World") -> None:
    one = await world.start()
    now = datetime.now(UTC)
    zone = f"Etc/GMT{now.hour - 12:+d}"  # where it is about noon (the sign is turned round in these names)
    local = (now - timedelta(hours=now.hour - 12)).replace(tzinfo=None)
    soon = (local + timedelta(seconds=4)).replace(microsecond=0)
    for name, until in (("ann", "18:00:00"), ("bob", soon.time().isoformat())):
        await world.account(name, name.title(), f"{name}@example.com")
        chosen = {"time_zone": zone, "quiet_hours": {"from": "06:00:00", "until": until}}
        assert (await world.ask(one, name, "PUT", "preferences", json=chosen)).status_code == 204

    async def known() -> bool:
        return await world.pool.fetchval("select count(*) from notifier.account") == 2

    await world.until(known)
    event = await world.invite(await world.contact("bob@example.com"))
    (mail,) = await world.mails("bob@example.com")
    begun = now.replace(microsecond=0) + (soon - local.replace(microsecond=0))
    assert parsedate_to_datetime(str(mail.header("Date"))) >= begun

    await world.device("cam-2", "Gate")
    other = await world.invite(await world.contact("bob@example.com"), device_id="cam-2")
    await world.event(answered(other, accepts=False))
    await world.event(answered(event, accepts=True))
    (mail,) = await world.mails("ann@example.com")
    assert "accepted Front door" in mail.subject  # at any hour: somebody has got access
    rows = await world.pool.fetch(
        "select d.due_at, d.state from notifier.delivery as d join notifier.notice as n using (notice_id)"
        " where n.template = 'rejected'"
    )
    ends = now.replace(minute=0, second=0, microsecond=0) + timedelta(hours=6)
    assert [(row["due_at"], row["state"]) for row in rows] == [(ends, "due")]


async def put_off(world: "World") -> None:
    """Wait until the first try of something has failed."""

    async def tried() -> bool:
        return await world.pool.fetchval("select exists (select from notifier.delivery where attempts = 1)")

    await world.until(tried)


async def test_a_mail_put_off_into_quiet_hours_waits_until_they_end(world: "World") -> None:
    world.mailbox.fail_next(451)
    one = await world.start(retry_first_seconds=1, delivery_concurrency=1)
    await world.account("bob", "Bob", "bob@example.com")
    bob = await world.contact("bob@example.com")
    await world.invite(bob)
    await put_off(world)
    now = datetime.now(UTC)
    zone = f"Etc/GMT{now.hour - 12:+d}"  # where it is about noon
    chosen = {"time_zone": zone, "quiet_hours": {"from": "06:00:00", "until": "18:00:00"}}
    assert (await world.ask(one, "bob", "PUT", "preferences", json=chosen)).status_code == 204
    ends = now.replace(minute=0, second=0, microsecond=0) + timedelta(hours=6)

    async def waits() -> bool:
        (delivery,) = await world.deliveries(bob)
        return (delivery["state"], delivery["due_at"], delivery["attempts"]) == ("due", ends, 1)

    await world.until(waits)
    await world.marker()
    assert world.mailbox.messages("bob@example.com") == []
    await world.pool.execute("delete from notifier.account_setting")
    await world.pool.execute("update notifier.delivery set due_at = now() where state = 'due'")
    assert len(await world.mails("bob@example.com")) == 1


async def test_a_mail_put_off_and_turned_off_meanwhile_is_not_sent(world: "World") -> None:
    world.mailbox.fail_next(451)
    one = await world.start(retry_first_seconds=1, delivery_concurrency=1)
    await world.account("bob", "Bob", "bob@example.com")
    bob = await world.contact("bob@example.com")
    await world.invite(bob)
    await put_off(world)
    chosen = {"wanted": {"invitation": {"email": False}}}
    assert (await world.ask(one, "bob", "PUT", "preferences", json=chosen)).status_code == 204
    assert (await world.settled(bob, "superseded"))["code"] == "NOT_WANTED"
    await world.marker()
    assert world.mailbox.messages("bob@example.com") == []


async def test_a_push_put_off_does_not_reach_who_uses_the_browser_next(
    world: "World", providers: Providers
) -> None:
    """Two people at one browser: what was for the first must not be shown to the second."""
    providers.answers.append((503, {}, None))
    one = await world.start(
        push_key=new_internal_key()[0], push_contact="mailto:ops@example.com",
        push_hosts=json.dumps([providers.address]), retry_first_seconds=1,
    )  # fmt: skip
    browser = {"endpoint": f"{providers.url}/push/shared", "keys": Browser().keys}
    await subscribed(world, one, browser)
    await world.invite(await world.contact("bob@example.com"))
    await put_off(world)
    await world.account("carol", "Carol", "carol@example.com")
    assert (await world.ask(one, "carol", "POST", "push-subscriptions", json=browser)).status_code == 201

    async def over() -> bool:
        state = "select state, code from notifier.delivery where channel = 'web_push'"
        return tuple(await world.pool.fetchrow(state) or ()) == ("failed", "SUBSCRIPTION_GONE")

    await world.until(over)
    assert len(providers.asked) == 1
    kept = (await world.ask(one, "carol", "GET", "push-subscriptions")).json()["items"]
    assert len(kept) == 1, "hers stays"


def redrive(world: "World", *options: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "notifier", "redrive", *options],
        env=world.env(), capture_output=True, text=True, check=True,
    )  # fmt: skip
    return done.stdout


async def test_an_operator_has_what_failed_tried_again(world: "World") -> None:
    world.mailbox.fail_next(554)
    await world.start()
    bob = await world.contact("bob@example.com")
    await world.invite(bob)
    code = (await world.settled(bob, "failed"))["code"]
    assert redrive(world, "--code", "MAIL_REFUSED_BY_NOBODY") == "Nothing has failed.\n"
    assert redrive(world, "--dry-run") == f"1 by email: {code}\n"
    assert (await world.settled(bob, "failed"))["code"] == code
    assert redrive(world, "--code", code) == f"1 by email: {code}\n1 are due again.\n"
    await world.mails("bob@example.com")
    await world.settled(bob, "sent")
    assert redrive(world) == "Nothing has failed.\n"


async def test_what_is_tried_again_is_looked_at_again(world: "World", providers: Providers) -> None:
    """A push goes out at once; the mail about the same invitation, which is taken back meanwhile, never."""
    account = world.directory / "account.json"
    account.write_text(providers.service_account())
    one = await world.start(fcm_account_file=account, fcm_url=providers.url)
    await subscribed(world, one, {"fcm_token": "token-of-bobs-app"})
    world.mailbox.fail_next(554)
    providers.answers.append((400, {}, None))
    bob = await world.contact("bob@example.com")
    event = await world.invite(bob)

    async def states() -> list[tuple[str, str]]:
        rows = [row for row in await world.deliveries(bob) if row["template"] == "invitation"]
        return [(row["channel"], row["state"]) for row in rows]

    async def come_to(email: str, fcm: str) -> None:
        async def there() -> bool:
            return await states() == [("email", email), ("fcm", fcm)]

        await world.until(there)

    await come_to("failed", "failed")
    told = redrive(world, "--code", "FCM_REFUSED")
    assert told == "1 by fcm: FCM_REFUSED\n1 are due again.\n"
    assert len(await providers.until(2, "/v1/projects/")) == 2
    await come_to("failed", "sent")
    await world.event(ShareRevoked(**_about(event), reason=RevokeReason.BY_OWNER))

    async def taken_back() -> bool:
        return await world.pool.fetchval("select state from notifier.invitation") == "ended"

    await world.until(taken_back)
    assert redrive(world) == "1 by email: RECIPIENT_REFUSED\n1 are due again.\n"
    await come_to("superseded", "sent")
    assert not any("wants" in mail.subject for mail in world.mailbox.messages("bob@example.com"))
