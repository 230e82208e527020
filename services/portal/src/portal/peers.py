"""The services that the portal asks over HTTP, each call as the account that acts."""

import time
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final, TypeVar
from urllib.parse import quote

import httpx
from pydantic import BaseModel, ValidationError

from contracts.commands import AnyCommand
from contracts.positions import POSITION_HEADER, format_positions, parse_positions
from portal import answers
from portal.errors import Refused, Unavailable
from portal.metrics import PEER_SECONDS
from servicekit.auth import InternalTokens
from servicekit.http import ApiError
from servicekit.logging import get_logger
from servicekit.telemetry import CORRELATION_HEADER, correlation_id

log = get_logger(__name__)

TIMEOUT: Final = httpx.Timeout(15.0, connect=2.0)
"""Above the 10 s that the read API may wait for a position."""

Params = Mapping[str, str | list[str]]
"""Of a query string; a list is a parameter given several times."""

_Model = TypeVar("_Model", bound=BaseModel)
_CONNECTION_FAILURES = (httpx.NetworkError, httpx.RemoteProtocolError, httpx.ConnectTimeout)


class Peer:
    """One service: ``name`` is its audience in tokens, ``url`` where it is."""

    def __init__(self, client: httpx.AsyncClient, tokens: InternalTokens, *, name: str, url: str) -> None:
        self._client, self._tokens, self._name, self._url = client, tokens, name, url

    async def ask(
        self,
        account_id: str,
        method: str,
        path: str,
        *,
        json: object = None,
        params: Params | None = None,
        position: str | None = None,
        attempts: int = 1,
    ) -> httpx.Response:
        """The answer to a request that ``account_id`` makes; ``attempts`` are for connections that fail.

        Raises:
            Refused: the service refuses, with its own code.
            Unavailable: it does not answer, or not as agreed.
        """
        headers = {"Authorization": f"Bearer {self._tokens.mint(audience=self._name, account_id=account_id)}"}
        if (correlation := correlation_id()) is not None:
            headers[CORRELATION_HEADER] = correlation
        if position is not None:
            # Written anew: what parses may still hold white space that no header can carry.
            headers[POSITION_HEADER] = format_positions(parse_positions(position))
        began = time.monotonic()
        for attempt in range(1, attempts + 1):
            try:
                answer = await self._client.request(
                    method, f"{self._url}{path}", json=json, params=params, headers=headers, timeout=TIMEOUT
                )
            except httpx.HTTPError as error:
                if isinstance(error, _CONNECTION_FAILURES) and attempt < attempts:
                    continue
                log.warning("peer_unreachable", peer=self._name, error=type(error).__name__)
                self._observe("unreachable", began)
                raise Unavailable from error
            if answer.is_success:
                self._observe("ok", began)
                return answer
            self._observe("refused", began)
            raise self._refusal(answer)
        raise AssertionError("at least one attempt is made")

    def _observe(self, outcome: str, began: float) -> None:
        PEER_SECONDS.labels(peer=self._name, outcome=outcome).observe(time.monotonic() - began)

    def _refusal(self, answer: httpx.Response) -> ApiError:
        """A refusal meant for the caller is passed on; what concerns only us two is not his to see."""
        try:
            error: dict[str, Any] = answer.json()["error"]
            code, message = str(error.pop("code")), str(error.pop("message"))
        except (ValueError, KeyError, TypeError, AttributeError):
            code, message, error = "", "", {}
        if not code or answer.status_code == HTTPStatus.UNAUTHORIZED or code == "INTERNAL":
            log.error("peer_misanswered", peer=self._name, status=answer.status_code, code=code)
            return Unavailable()
        return Refused(code, answer.status_code, message, details=error)

    def read(self, model: type[_Model], answer: httpx.Response) -> _Model:
        """The answer's body; raises `Unavailable` when it is not as agreed."""
        try:
            return model.model_validate_json(answer.content)
        except ValidationError as error:
            log.error("peer_misanswered", peer=self._name, problems=error.error_count(), model=model.__name__)
            raise Unavailable from None


class ShareCommand(Peer):
    """Decides about shares, and keeps the contact book."""

    async def send(self, command: AnyCommand) -> str:
        """Have a command carried out; returns the positions that its effects stand at, comma-separated.

        It is sent once more, under the same id, when the connection fails: it runs once all the same.
        """
        body = command.model_dump(mode="json", exclude={"actor"})
        path = f"/v1/commands/{type(command).__name__}"
        answer = await self.ask(command.actor, "POST", path, json=body, attempts=2)
        return answer.headers.get(POSITION_HEADER, "")

    async def contacts(self, account_id: str) -> tuple[answers.Contact, ...]:
        """The contact book of an account."""
        answer = await self.ask(account_id, "GET", "/v1/contacts", attempts=2)
        return self.read(answers.Contacts, answer).contacts

    async def invitation(self, account_id: str, token: str) -> answers.LinkedInvitation:
        """The invitation behind a link.

        Raises:
            Refused: ``INVALID_LINK``, also for everybody whom it does not concern.
        """
        body = {"token": token}
        answer = await self.ask(account_id, "POST", "/v1/invitation-links", json=body, attempts=2)
        return self.read(answers.LinkedInvitation, answer)


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

    async def invitations(self, account_id: str, position: str | None) -> tuple[answers.Invitation, ...]:
        """What the account may accept now."""
        answer = await self.ask(account_id, "GET", "/v1/invitations", position=position, attempts=2)
        return self.read(answers.Invitations, answer).items


class Gateway(Peer):
    """Opens and closes connections to services."""

    async def connect(
        self, account_id: str, service_id: str, host_ip: str, position: str | None
    ) -> answers.Connection:
        """Open a port for one source address; raises Refused ``ACCESS_DENIED`` for all not granted."""
        body = {"service_id": service_id, "host_ip": host_ip}
        answer = await self.ask(account_id, "POST", "/v1/connections", json=body, position=position)
        return self.read(answers.Connection, answer)

    async def disconnect(self, account_id: str, connection_id: str) -> None:
        """Close a connection of one's own; raises Refused when there is none of that id."""
        await self.ask(account_id, "DELETE", f"/v1/connections/{quote(connection_id, safe='')}", attempts=2)
