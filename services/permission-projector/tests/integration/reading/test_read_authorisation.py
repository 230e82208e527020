"""In random worlds everybody asks for everything: in no answer is anything that is not his."""

import asyncio
import json
from collections.abc import Iterator
from typing import Any
from uuid import UUID

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from contracts.base import new_id
from contracts.events import (
    RevokeReason,
    ShareAccepted,
    ShareExpired,
    ShareLeft,
    ShareRejected,
    ShareRequested,
    ShareRevoked,
)
from contracts.permissions import AllServices, Permission, Terms

ACCOUNTS = ("ann-acct", "ben-acct", "cid-acct", "dov-acct")
Share = tuple[str, str, str]
"""Owner, recipient, and how the share ended up."""

STATES = ("requested", "active", "rejected", "revoked", "left", "expired")
WORLDS = st.fixed_dictionaries(
    {
        (owner, recipient): st.sampled_from((None, "active", *STATES))
        for owner in ACCOUNTS
        for recipient in ACCOUNTS
        if owner != recipient
    }
)
"""Of each two accounts: whether the one's device is shared with the other, and how that share ended up."""


def made(world: Any, share: Share, version: int, contact: UUID) -> Iterator[Any]:
    """The records of a share of its owner's device, the first under ``version``."""
    owner, recipient, state = share
    who: dict[str, Any] = {
        "share_id": new_id(), "device_id": f"device-of-{owner}", "contact_id": contact,
        "owner_account_id": owner,
    }  # fmt: skip
    yield world.event(ShareRequested(**who, terms=Terms(scope=AllServices())), version)
    if state in {"active", "left", "expired"}:
        yield world.event(ShareAccepted(**who, account_id=recipient), version + 1)
    match state:
        case "rejected":
            yield world.event(ShareRejected(**who, account_id=recipient), version + 1)
        case "revoked":
            yield world.event(ShareRevoked(**who, reason=RevokeReason.BY_OWNER), version + 1)
        case "left":
            yield world.event(ShareLeft(**who, account_id=recipient), version + 2)
        case "expired":
            yield world.event(ShareExpired(**who, account_id=recipient), version + 2)
        case _:
            pass


def secrets(account: str) -> dict[str, str]:
    """What is told of an account or of its device, by how it may be recognised in an answer."""
    return {
        "id": account,
        "name": account.title(),
        "address": f"{account}@example.com",
        "device": f"device-of-{account}",
        "device name": f"Machine of {account}",
        "service": f"service-of-{account}",
        "service name": f"SERVICE-OF-{account.upper()}",
        "connection": f"via-{account}",
    }


def may_see(shares: list[Share], me: str) -> set[str]:
    """Every text that answers to ``me`` may hold."""
    mine = set(secrets(me).values())
    for owner, recipient, state in shares:
        if owner == me:
            mine |= {secrets(recipient)[part] for part in ("id", "name", "address")}
        if recipient == me and state != "revoked":
            # Whoever has or had a share knows whose and of what; the rest only while he has it.
            mine |= {secrets(owner)[part] for part in ("id", "name", "device")}
            if state in {"active", "requested"}:
                mine |= {secrets(owner)[part] for part in ("address", "device name")}
            if state == "active":
                mine |= {secrets(owner)[part] for part in ("service", "service name")}
    return mine


PATHS = (
    "/me", "/devices", "/devices?shared=in", "/devices?owner=true&total=true", "/invitations", "/history",
    "/connections", "/connections?open=true", "/events?total=true", "/events?type=share&size=3",
    f"/device-events?total=true&id={'&id='.join(f'device-of-{account}' for account in ACCOUNTS)}",
    f"/connections?open=true&device={'&device='.join(f'device-of-{account}' for account in ACCOUNTS)}",
    *(f"/devices?total=true&service=service-of-{account}" for account in ACCOUNTS),
    *(f"/devices?shared_with={account}" for account in ACCOUNTS),
    *(f"/devices?id=device-of-{account}" for account in ACCOUNTS),
    *(
        f"/devices/device-of-{account}{part}"
        for account in ACCOUNTS
        for part in ("", "/access", "/history", "/connections", "/access?at=2026-01-01T00:00:03Z",
                     "/access?at=2027-01-01T00:00:00Z")
    ),
)  # fmt: skip


@pytest.mark.timeout(300)
@settings(
    max_examples=6,
    deadline=None,
    phases=(Phase.generate,),  # a world takes seconds: one that is wrong is shown as it was found
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(shares_of=WORLDS)
async def test_nobody_is_told_what_is_not_his(
    world: Any, api: Any, shares_of: dict[tuple[str, str], str | None]
) -> None:
    shares = [(*pair, state) for pair, state in shares_of.items() if state is not None]
    await world.empty()
    await world.pool.execute("truncate permission_projector.connection")
    contacts = {account: new_id() for account in ACCOUNTS}
    records: list[Any] = []
    for account in ACCOUNTS:
        records += [
            world.account(account),
            world.contact(contacts[account], f"mailto:{account}@example.com"),
            world.device(
                f"device-of-{account}", owner=account, name=f"Machine of {account}",
                services={f"service-of-{account}": [Permission.CONNECT]},
            ),
        ]  # fmt: skip
        await world.pool.execute(
            "insert into permission_projector.connection (connection_id, device_id, service_id, account_id,"
            " permission, gateway_id, opened_at, outcome)"
            " values ($1, $2, $3, $4, 'connect', 'gw', now(), 'open')",
            new_id(), f"device-of-{account}", f"via-{account}", account,
        )  # fmt: skip
    versions: dict[str, int] = dict.fromkeys(ACCOUNTS, 1)
    ids: dict[str, tuple[str, str]] = {}
    for owner, recipient, state in shares:
        events = list(made(world, (owner, recipient, state), versions[owner], contacts[recipient]))
        versions[owner] += len(events)
        ids[json.loads(events[0].value)["data"]["share_id"]] = (owner, recipient)
        records += events
    await world.apply(*records)
    everything = {text for account in ACCOUNTS for text in secrets(account).values()}
    for me in ACCOUNTS:
        allowed = may_see(shares, me)
        answers = await asyncio.gather(*(api.get(me, path) for path in PATHS))
        for path, answer in zip(PATHS, answers, strict=True):
            # A refusal says again what was asked for, and nothing else.
            text = answer.text if answer.status_code == 200 else answer.text.replace(path.split("/")[2], "")
            told = {secret for secret in everything if f'"{secret}"' in text}
            assert told <= allowed, (me, path, told - allowed, shares)
            foreign = {share_id for share_id in ids if share_id in text and me not in ids[share_id]}
            assert not foreign, (me, path, shares)
            for total in ("total", "access_total", "invited_total"):
                _counts_are_own(answer, total, me, shares)
    await _nothing_by_the_cursors_of_others(api, shares, everything)
    await _nothing_by_positions(api, shares)


PAGED = (
    "/devices?size=1", "/history?size=1", "/connections?size=1", "/events?size=1", "/invitations?size=1",
    *(f"/devices/device-of-{name}/{part}?size=1" for name in ACCOUNTS for part in ("access", "history")),
)  # fmt: skip


async def _nothing_by_the_cursors_of_others(api: Any, shares: list[Share], everything: set[str]) -> None:
    """A cursor says where somebody's page ended, and nothing about who may go on from there."""
    for path in PAGED:
        first = await asyncio.gather(*(api.get(account, path) for account in ACCOUNTS))
        cursors = [page.json()["next"] for page in first if page.status_code == 200 and page.json()["next"]]
        for me in ACCOUNTS:
            allowed = may_see(shares, me)
            for answer in await asyncio.gather(
                *(api.get(me, f"{path}&cursor={cursor}") for cursor in cursors)
            ):
                text = (
                    answer.text if answer.status_code == 200 else answer.text.replace(path.split("/")[2], "")
                )
                told = {secret for secret in everything if f'"{secret}"' in text}
                assert told <= allowed, (me, path, told - allowed, shares)


async def _nothing_by_positions(api: Any, shares: list[Share]) -> None:
    """A device that somebody has nothing to do with has no versions for him, like one that does not exist."""
    for me in ACCOUNTS:
        nothing = await api.get(me, "/me?after=no-such-device@1&wait=0")
        assert nothing.status_code != 200
        for owner in ACCOUNTS:
            if owner == me or any(share[:2] == (owner, me) for share in shares):
                continue
            answer = await api.get(me, f"/me?after=device-of-{owner}@1&wait=0")
            same = answer.text.replace(f"device-of-{owner}", "no-such-device")
            assert (answer.status_code, same) == (nothing.status_code, nothing.text), (me, owner, shares)


def _counts_are_own(answer: Any, total: str, me: str, shares: list[Share]) -> None:
    """A count is of what the caller may see: never of other people's shares."""
    if answer.status_code != 200:
        return
    body = answer.json()
    for item in [body, *body.get("items", [])]:
        if total != "total" and total in item and not item["owned"]:
            assert item[total] <= sum(recipient == me and state == "active" for _, recipient, state in shares)
    if (
        total == "total" and "last" in body
    ):  # of events: all of them are in the answer, or they are not counted
        assert body["total"] in {None, len(body["items"])}
    elif total in body and total == "total" and body["total"] is not None:
        live = sum(recipient == me != owner and state == "active" for owner, recipient, state in shares)
        assert body["total"] <= 1 + live
