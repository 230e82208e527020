"""What many deliveries ask of the database at one time is asked at once: each question is put the moment it
comes, and those that come while an answer is on its way share the next."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, Generic, TypeVar
from uuid import UUID

from notifier.store.outward import Claimed, Item, Store
from servicekit import pg
from servicekit.logging import get_logger

log = get_logger(__name__)

_RETRY_SECONDS: Final = 0.1
_MOST: Final = 200

_Question = TypeVar("_Question")
_Answer = TypeVar("_Answer")


class Together(Generic[_Question, _Answer]):
    """``ask`` answers several questions, in their order. What it raises, all of them who asked get."""

    def __init__(self, ask: Callable[[Sequence[_Question]], Awaitable[Sequence[_Answer]]]) -> None:
        self._ask = ask
        self._waiting: list[tuple[_Question, asyncio.Future[_Answer]]] = []
        self._asking: asyncio.Task[None] | None = None

    async def __call__(self, question: _Question) -> _Answer:
        """The answer, as it is after the question came."""
        answer: asyncio.Future[_Answer] = asyncio.get_running_loop().create_future()
        self._waiting.append((question, answer))
        if self._asking is None or self._asking.done():
            self._asking = asyncio.create_task(self._answer())
        return await answer

    async def _answer(self) -> None:
        while self._waiting:
            taken, self._waiting = self._waiting[:_MOST], self._waiting[_MOST:]
            try:
                answers = await self._ask([question for question, _ in taken])
            except Exception as error:
                for _, waiting in taken:
                    if not waiting.done():
                        waiting.set_exception(error)
            else:
                for (_, waiting), answer in zip(taken, answers, strict=True):
                    if not waiting.done():
                        waiting.set_result(answer)


Looker = Together[Claimed, list[Item]]
Marker = Together[Sequence[UUID], None]


def looking(store: Store) -> Looker:
    """Reads what is to be sent, as it is at the moment of sending."""
    return Looker(store.items)


def marking(store: Store) -> Marker:
    """Marks deliveries as sent. A mark is what keeps a message from going out twice: it is tried until it is
    written."""

    async def mark(sent: Sequence[Sequence[UUID]]) -> Sequence[None]:
        ids = [delivery_id for delivery_ids in sent for delivery_id in delivery_ids]
        while True:
            try:
                await store.mark_sent(ids)
            except pg.TRANSIENT as error:
                log.warning("mark_delayed", error=repr(error))
                await asyncio.sleep(_RETRY_SECONDS)
            else:
                return [None] * len(sent)

    return Marker(mark)
