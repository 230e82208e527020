"""The read API, asked over HTTP as the account that acts."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Final
from urllib.parse import quote

import httpx

from portal import answers, happenings
from portal.errors import LimitReached
from portal.peers import Params, Peer

_PAGE: Final = 1000
_MAX_ACCESS_PAGES: Final = 100
_MAX_INVITATION_PAGES: Final = 10
_CONNECTION_PAGE: Final = 200
_MAX_CONNECTION_PAGES: Final = 50


class ReadApi(Peer):
    """Tells who has what. ``position`` makes an answer at least that fresh, or ``NOT_YET_VISIBLE``."""

    async def me(self, account_id: str) -> answers.Me:
        """The account itself."""
        return self.read(answers.Me, await self.ask(account_id, "GET", "/v1/me", attempts=2))

    async def devices(self, account_id: str, params: Params, position: str | None) -> answers.DevicePage:
        """Devices of an account and those shared with it; ``params`` as in docs/architecture.md."""
        answer = await self.ask(
            account_id, "GET", "/v1/devices", params=params, position=position, attempts=2
        )
        return self.read(answers.DevicePage, answer)

    async def device(self, account_id: str, device_id: str, position: str | None) -> answers.Device:
        """One device; raises Refused ``DEVICE_NOT_FOUND`` also when it is nobody's business."""
        path = f"/v1/devices/{quote(device_id, safe='')}"
        return self.read(
            answers.Device, await self.ask(account_id, "GET", path, position=position, attempts=2)
        )

    async def access(self, account_id: str, device_id: str) -> tuple[answers.Access, ...]:
        """All of one device's access list that the account may see, page by page.

        Raises:
            Refused: ``DEVICE_NOT_FOUND``, as `device`.
            LimitReached: it is longer than any installation allows.
        """
        path, found = f"/v1/devices/{quote(device_id, safe='')}/access", list[answers.Access]()
        params = {"size": str(_PAGE)}
        for _ in range(_MAX_ACCESS_PAGES):
            answer = await self.ask(account_id, "GET", path, params=params, attempts=2)
            page = self.read(answers.AccessPage, answer)
            found += page.items
            if page.next is None:
                return tuple(found)
            params["cursor"] = page.next
        raise LimitReached(f"More than {_PAGE * _MAX_ACCESS_PAGES} have access to one device.")

    async def share_history(
        self, account_id: str, params: Params, position: str | None
    ) -> answers.PastShares:
        """Shares that the account gave and had, as they are now."""
        answer = await self.ask(
            account_id, "GET", "/v1/history", params=params, position=position, attempts=2
        )
        return self.read(answers.PastShares, answer)

    async def device_history(self, account_id: str, device_id: str, params: Params) -> answers.DeviceHistory:
        """What happened to the shares of a device; raises Refused ``DEVICE_NOT_FOUND``, as `device`."""
        path = f"/v1/devices/{quote(device_id, safe='')}/history"
        return self.read(
            answers.DeviceHistory, await self.ask(account_id, "GET", path, params=params, attempts=2)
        )

    async def connections(
        self, account_id: str, device_id: str | None, params: Params
    ) -> answers.ConnectionRecords:
        """Connections to a device, or to and of all that is the account's."""
        path = f"/v1/devices/{quote(device_id, safe='')}/connections" if device_id else "/v1/connections"
        return self.read(
            answers.ConnectionRecords, await self.ask(account_id, "GET", path, params=params, attempts=2)
        )

    async def changes(self, account_id: str, last_event_id: str | None) -> httpx.Response:
        """The account's live updates, to be read and closed by the caller; raises as `ask`."""
        headers = {"Last-Event-ID": last_event_id} if last_event_id else {}
        return await self.stream(account_id, "/v1/changes", headers)

    async def events(
        self, account_id: str, params: Mapping[str, str | Sequence[str]], position: str | None
    ) -> happenings.EventPage:
        """What happened to shares that the account gave or had, and on connections."""
        answer = await self.ask(
            account_id, "GET", "/v1/events", params=_query(params), position=position, attempts=2
        )
        return self.read(happenings.EventPage, answer)

    async def device_events(
        self,
        account_id: str,
        device_ids: Sequence[str],
        params: Mapping[str, str | Sequence[str]],
        position: str | None,
    ) -> tuple[happenings.EventsOfDevice, ...]:
        """The same of each of up to 200 devices; those without events are left out."""
        query = _query({**params, "id": device_ids})
        answer = await self.ask(
            account_id, "GET", "/v1/device-events", params=query, position=position, attempts=2
        )
        return self.read(happenings.EventsOfDevices, answer).devices

    async def open_connections(
        self, account_id: str, device_ids: Sequence[str] | None
    ) -> list[happenings.OpenConnection]:
        """Connections that are open, to all devices or to some of them (at most 200), page by page.

        Raises:
            LimitReached: there are more than anybody could look through.
        """
        params, found = (
            _query({"open": "true", "size": str(_CONNECTION_PAGE)}),
            list[happenings.OpenConnection](),
        )
        if device_ids is not None:
            params["device"] = list(device_ids)
        for _ in range(_MAX_CONNECTION_PAGES):
            answer = await self.ask(account_id, "GET", "/v1/connections", params=params, attempts=2)
            page = self.read(happenings.OpenConnections, answer)
            found += page.items
            if page.next is None:
                return found
            params["cursor"] = page.next
        raise LimitReached(f"More than {_CONNECTION_PAGE * _MAX_CONNECTION_PAGES} connections are open.")

    async def access_at(
        self, account_id: str, device_id: str, at: datetime
    ) -> tuple[happenings.PastAccess, ...]:
        """Who had access to a device of the account's at a time, by his shares."""
        path = f"/v1/devices/{quote(device_id, safe='')}/access"
        answer = await self.ask(account_id, "GET", path, params={"at": at.isoformat()}, attempts=2)
        return self.read(happenings.PastAccessList, answer).items

    async def invitations(self, account_id: str, position: str | None) -> tuple[answers.Invitation, ...]:
        """What the account may accept now, page by page.

        Raises:
            LimitReached: there are more than anybody could look through.
        """
        params, found = {"size": str(_PAGE)}, list[answers.Invitation]()
        for _ in range(_MAX_INVITATION_PAGES):
            answer = await self.ask(
                account_id, "GET", "/v1/invitations", params=params, position=position, attempts=2
            )
            page = self.read(answers.InvitationPage, answer)
            found += page.items
            if page.next is None:
                return tuple(found)
            params["cursor"] = page.next
        raise LimitReached(f"More than {_PAGE * _MAX_INVITATION_PAGES} invitations wait.")


def _query(params: Mapping[str, str | Sequence[str]]) -> dict[str, str | list[str]]:
    return {name: value if isinstance(value, str) else list(value) for name, value in params.items()}
