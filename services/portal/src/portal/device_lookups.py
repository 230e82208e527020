"""What many devices of one request ask for at once, asked of the read API for all of them together."""

from collections.abc import Sequence
from typing import Final

from strawberry.dataloader import DataLoader

from portal.happenings import EventPage, OpenConnection
from portal.read_api import ReadApi

_MOST_DEVICES: Final = 200
"""That the read API takes at once."""

_Asked = tuple[str, tuple[tuple[str, str | tuple[str, ...]], ...]]
"""A device, and which of its events: pairs of a query string."""


class DeviceLookups:
    """Events and open connections by device, for one account."""

    def __init__(self, read_api: ReadApi, account_id: str, position: str | None) -> None:
        self._read_api, self._account_id, self._position = read_api, account_id, position
        self.events: DataLoader[_Asked, EventPage] = DataLoader(self._events, max_batch_size=_MOST_DEVICES)
        self.open: DataLoader[str, list[OpenConnection]] = DataLoader(
            self._open, max_batch_size=_MOST_DEVICES
        )

    async def _events(self, asked: Sequence[_Asked]) -> list[EventPage]:
        found: dict[_Asked, EventPage] = {}
        for which in dict.fromkeys(which for _, which in asked):
            device_ids = [device_id for device_id, wanted in asked if wanted == which]
            pages = await self._read_api.device_events(
                self._account_id, device_ids, dict(which), self._position
            )
            found |= {(page.device_id, which): page for page in pages}
        return [found.get(one) or EventPage(total=0) for one in asked]

    async def _open(self, device_ids: Sequence[str]) -> list[list[OpenConnection]]:
        found: dict[str, list[OpenConnection]] = {device_id: [] for device_id in device_ids}
        for connection in await self._read_api.open_connections(self._account_id, device_ids):
            found[connection.device_id].append(connection)
        return [found[device_id] for device_id in device_ids]
