"""Every scenario of this folder on the pure core and on the real stack: both as the file says, and alike."""

from collections.abc import Mapping
from pathlib import Path

import pytest
from acting import Names, plain, shown
from pure import PureSide
from real import RealSide, RealStack, needs_stack
from scenario import Expect, Listed, Scenario, Step, load
from sides import Done, Happened, Side, Snapshot

from contracts.contacts import InvalidAddressError

FILES = sorted(Path(__file__).parent.glob("*.yaml"))

ROWS = {
    "W3", "W5", "W7", "W9", "W10", "G1", "G2", "G3", "G4", "G5", "G6", "G7", "G8", "G9", "G10", "G11",
    "H2", "H4", "H5", "H6", "H7", "H8", "H9", "H10", "H11", "H12",
}  # fmt: skip
"""Rows of the requirements that the deciding side has a part in."""

RULES = {
    "invitation until accepted",
    "only the verified account accepts",
    "accept the terms that were seen",
    "grant stays with the account",
    "always accept",
    "permissions per service",
    "all is an intent",
    "a list is a list",
    "scripting",
    "message",
    "start of a share",
    "end of a share",
    "end of an invitation",
    "resend",
    "cancel",
    "reject and leave",
    "share again after an end",
    "only the owner",
    "only the recipient",
    "nobody shares with himself",
    "no event when nothing changes",
    "delta and absolute change",
    "limit of a device",
    "limit of an owner",
    "recipient by e-mail",
    "recipient by phone",
    "unknown recipient waits",
    "contact book",
    "remark is private",
    "delete a recipient",
    "contact code",
    "device removed",
    "service removed",
    "owner changed",
    "account deleted",
    "bulk",
    "all or nothing",
    "dry run",
    "two editors",
    "idempotency",
    "service named in place of its device",
}
"""Rules of sharing, one by one."""


def test_every_row_and_every_rule_has_a_scenario() -> None:
    proved = {name for path in FILES for name in load(path).proves}
    assert not (ROWS | RULES) - proved, "nothing proves these"
    assert not proved - (ROWS | RULES), "these are no rows and no rules; are they misspelt?"


def test_a_key_that_is_misspelt_is_an_error(tmp_path: Path) -> None:
    written = FILES[0].read_text().replace("proves:", "proofs:")
    path = tmp_path / "scenario.yaml"
    path.write_text(written)
    with pytest.raises(ValueError, match="proofs"):
        load(path)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
async def test_scenario(path: Path, stack: RealStack) -> None:
    scenario = load(path)
    number = FILES.index(path) + 1
    real: Side = RealSide(stack, Names(number), scenario.limits)
    pure: Side | None = None if needs_stack(scenario) else PureSide(Names(number), scenario.limits)
    sides = (
        [("the real stack", real)] if pure is None else [("the pure core", pure), ("the real stack", real)]
    )
    for _, side in sides:
        await side.begin(scenario.accounts, scenario.devices)
    for place, step in enumerate(scenario.steps, 1):
        found: list[tuple[Done, list[Happened], Snapshot]] = []
        for name, side in sides:
            found.append(await _step(side, step, scenario, f"{path.name}, step {place}, {name}"))
        assert found[0] == found[-1], f"{path.name}, step {place}: the two differ"


async def _step(
    side: Side, step: Step, scenario: Scenario, where: str
) -> tuple[Done, list[Happened], Snapshot]:
    if step.wait is not None:
        await side.wait(step.wait)
        done = Done()
    else:
        done = await side.act(step)
    assert done.refused == step.refused, where
    events = await side.events()
    if step.events is not None:
        assert [item.name.removeprefix("Share") for item in events] == step.events, where
    if step.outcomes is not None:
        assert done.outcomes == step.outcomes, where
    if step.would is not None:
        expected = {
            device: {
                recipient: {
                    "outcome": would.outcome,
                    "state": would.state,
                    "permissions": {name: plain(chosen) for name, chosen in would.permissions.items()},
                }
                for recipient, would in items.items()
            }
            for device, items in step.would.items()
        }
        assert done.would == expected, where
    snapshot = await side.snapshot()
    _compare(step.expect, snapshot, where)
    for verdict in step.expect.can:
        assert await side.verdict(verdict), f"{where}: {verdict} is denied"
    for verdict in step.expect.cannot:
        assert not await side.verdict(verdict), f"{where}: {verdict} is allowed"
    for private in step.expect.private:
        assert not await side.reveals(private), where
    return done, events, snapshot


def _compare(expect: Expect, snapshot: Snapshot, where: str) -> None:
    for device, states in expect.states.items():
        assert snapshot.states[device] == _shown(states), f"{where}: states of {device}"
    for account, access in expect.access.items():
        named = {service: plain(permissions) for service, permissions in access.items()}
        assert snapshot.access[account] == named, f"{where}: what {account} may do"
    for address, notices in expect.notices.items():
        assert list(snapshot.notices.get(shown(address), ())) == list(notices), (
            f"{where}: notices to {address}"
        )
    for device, listed in expect.listed.items():
        rows = {shown(address): _row(row) for address, row in listed.items()}
        assert snapshot.listed[device] == rows, f"{where}: the owner's list of {device}"
    for account, book in expect.book.items():
        assert snapshot.books[account] == _shown(book), f"{where}: the contact book of {account}"
    for account, messages in expect.messages.items():
        assert snapshot.messages.get(account, {}) == messages, f"{where}: what {account} is told"


def _shown(by_address: Mapping[str, str | None]) -> object:
    try:
        return {shown(address): value for address, value in by_address.items()}
    except InvalidAddressError as error:
        raise AssertionError(f"the file expects something of what is no address: {error}") from None


def _row(row: Listed) -> object:
    return {
        "state": row.state,
        "all": None if row.all is None else plain(row.all),
        "services": None
        if row.services is None
        else {name: plain(chosen) for name, chosen in row.services.items()},
        "scripting": row.scripting,
    }
