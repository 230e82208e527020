"""Whether an account is deleted is asked seldom, and never long after it could be known."""

import asyncio
import time

import pytest

from servicekit import deleted
from servicekit.deleted import AccountDeletedError, DeletedAccounts


class Registry:
    def __init__(self) -> None:
        self.gone: set[str] = set()
        self.asked = 0

    async def is_deleted(self, account_id: str) -> bool:
        self.asked += 1
        return account_id in self.gone


async def test_that_it_is_there_is_remembered_for_seconds_and_that_it_is_gone_never(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = 1000.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    registry = Registry()
    accounts = DeletedAccounts(registry.is_deleted)
    for _ in range(10):
        await accounts.refuse("ann")
    assert registry.asked == 1
    registry.gone.add("ann")
    now += deleted.REMEMBERED_SECONDS - 0.1
    await accounts.refuse("ann")
    now += 0.1
    for _ in range(2):
        with pytest.raises(AccountDeletedError):
            await accounts.refuse("ann")
    registry.gone.clear()
    await accounts.refuse("ann")


async def test_what_is_told_meanwhile_counts_at_once() -> None:
    registry = Registry()
    accounts = DeletedAccounts(registry.is_deleted)
    await accounts.refuse("ann")
    registry.gone.add("ann")
    accounts.forget()
    with pytest.raises(AccountDeletedError):
        await accounts.refuse("ann")


async def test_an_answer_that_was_on_its_way_when_it_was_told_is_not_remembered() -> None:
    asked, told = asyncio.Event(), asyncio.Event()
    answers = iter((False, True))

    async def is_deleted(account_id: str) -> bool:
        del account_id
        answer = next(answers)
        asked.set()
        await told.wait()
        return answer

    accounts = DeletedAccounts(is_deleted)
    first = asyncio.create_task(accounts.refuse("ann"))
    await asked.wait()
    accounts.forget()
    told.set()
    await first
    with pytest.raises(AccountDeletedError):
        await accounts.refuse("ann")


async def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deleted, "_MOST_REMEMBERED", 3)
    registry = Registry()
    accounts = DeletedAccounts(registry.is_deleted)
    for name in "abcd":
        await accounts.refuse(name)
    await accounts.refuse("a")
    assert registry.asked == 5
