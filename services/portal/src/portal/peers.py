"""The services that the portal asks over HTTP, each call as the account that acts."""

import asyncio
import time
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any, Final, TypeVar
from urllib.parse import quote
from uuid import UUID

import httpx
from pydantic import BaseModel, ValidationError

from contracts.commands import AnyCommand
from contracts.outcomes import BulkDone, BulkShare, Explanation
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

BULK_TIMEOUT: Final = httpx.Timeout(60.0, connect=2.0)
"""A bulk is many transactions; one that is cut short goes on when it is sent again."""

STREAM_TIMEOUT: Final = httpx.Timeout(60.0, connect=2.0)
"""Above the 15 s after which the read API says something on a quiet stream."""

Params = Mapping[str, str | list[str]]
"""Of a query string; a list is a parameter given several times."""

_Model = TypeVar("_Model", bound=BaseModel)
_CONNECTION_FAILURES = (
    httpx.NetworkError,
    httpx.RemoteProtocolError,
    httpx.ConnectTimeout,
    AttributeError,  # so httpcore's stream fails that is reset between its connect and its first use
)


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
        timeout: httpx.Timeout = TIMEOUT,
    ) -> httpx.Response:
        """The answer to a request that ``account_id`` makes; ``attempts`` are for connections that fail.

        Raises:
            Refused: the service refuses, with its own code.
            Unavailable: it does not answer, or not as agreed.
        """
        headers = self._headers(account_id)
        if position is not None:
            # Written anew: what parses may still hold white space that no header can carry.
            headers[POSITION_HEADER] = format_positions(parse_positions(position))
        began = time.monotonic()
        for attempt in range(1, attempts + 1):
            try:
                answer = await self._client.request(
                    method, f"{self._url}{path}", json=json, params=params, headers=headers, timeout=timeout
                )
            except (httpx.HTTPError, AttributeError) as error:
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

    async def stream(self, account_id: str, path: str, headers: Mapping[str, str]) -> httpx.Response:
        """An answer that comes bit by bit, whose body is not read yet; raises as `ask`."""
        asked = self._client.build_request(
            "GET",
            f"{self._url}{path}",
            headers={**self._headers(account_id), **headers},
            timeout=STREAM_TIMEOUT,
        )
        began = time.monotonic()
        try:
            answer = await self._client.send(asked, stream=True)
            if not answer.is_success:
                await answer.aread()
        except (httpx.HTTPError, AttributeError) as error:
            log.warning("peer_unreachable", peer=self._name, error=type(error).__name__)
            self._observe("unreachable", began)
            raise Unavailable from error
        if not answer.is_success:
            self._observe("refused", began)
            raise self._refusal(answer)
        self._observe("ok", began)
        return answer

    def _headers(self, account_id: str) -> dict[str, str]:
        """Who asks, on whose behalf, in the course of what."""
        headers = {"Authorization": f"Bearer {self._tokens.mint(audience=self._name, account_id=account_id)}"}
        if (correlation := correlation_id()) is not None:
            headers[CORRELATION_HEADER] = correlation
        return headers

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

    async def bulk(self, bulk: BulkShare) -> tuple[BulkDone, str]:
        """Share each device with each recipient; the outcomes, and the positions, comma-separated."""
        body = bulk.model_dump(mode="json", exclude={"actor"})
        answer = await self.ask(
            bulk.actor, "POST", "/v1/bulk-shares", json=body, attempts=2, timeout=BULK_TIMEOUT
        )
        return self.read(BulkDone, answer), answer.headers.get(POSITION_HEADER, "")

    async def explain(self, command: AnyCommand) -> Explanation:
        """What a command would do now."""
        body = command.model_dump(mode="json", exclude={"actor"})
        path = f"/v1/explanations/{type(command).__name__}"
        return self.read(Explanation, await self.ask(command.actor, "POST", path, json=body, attempts=2))

    async def given_shares(self, account_id: str, device_id: str) -> tuple[answers.GivenShare, ...]:
        """The live shares of a device of the account's."""
        params = {"device_id": device_id}
        answer = await self.ask(account_id, "GET", "/v1/shares", params=params, attempts=2)
        return self.read(answers.GivenShares, answer).shares

    async def messages(self, account_id: str, share_ids: Sequence[UUID]) -> dict[UUID, str]:
        """The owner's words of those shares that have some, for owner or recipient."""
        body = {"share_ids": [str(share_id) for share_id in share_ids]}
        answer = await self.ask(account_id, "POST", "/v1/messages", json=body, attempts=2)
        return self.read(answers.Messages, answer).messages

    async def contacts(self, account_id: str, containing: str | None = None) -> tuple[answers.Contact, ...]:
        """The contact book of an account."""
        params = {"containing": containing} if containing else {}
        answer = await self.ask(account_id, "GET", "/v1/contacts", params=params, attempts=2)
        return self.read(answers.Contacts, answer).contacts

    async def add_contact(self, account_id: str, recipient: str, remark: str | None) -> answers.ContactId:
        """Put an address into the account's book."""
        body = {"recipient": recipient, "remark": remark}
        answer = await self.ask(account_id, "POST", "/v1/contacts", json=body, attempts=2)
        return self.read(answers.ContactId, answer)

    async def set_remark(self, account_id: str, contact_id: str, remark: str) -> None:
        """Note something on a contact of the account's."""
        path = f"/v1/contacts/{quote(contact_id, safe='')}/remark"
        await self.ask(account_id, "PUT", path, json={"remark": remark}, attempts=2)

    async def contact_code(self, account_id: str) -> answers.ContactCode:
        """What the account may show as a QR code."""
        answer = await self.ask(account_id, "POST", "/v1/contact-codes", attempts=2)
        return self.read(answers.ContactCode, answer)

    async def scan_code(self, account_id: str, code: str) -> answers.ContactId:
        """Put who showed the code into the account's book."""
        answer = await self.ask(
            account_id, "POST", "/v1/contact-codes/scans", json={"code": code}, attempts=2
        )
        return self.read(answers.ContactId, answer)

    async def accepting_from(self, account_id: str) -> tuple[answers.AcceptedOwner, ...]:
        """Whose shares the account always accepts."""
        answer = await self.ask(account_id, "GET", "/v1/always-accept", attempts=2)
        return self.read(answers.AcceptedOwners, answer).owners

    async def set_always_accept(self, account_id: str, owner_id: str, *, always: bool) -> None:
        """Accept whatever the owner shares with the account from now on, or not."""
        path = f"/v1/always-accept/{quote(owner_id, safe='')}"
        await self.ask(account_id, "PUT" if always else "DELETE", path, attempts=2)

    async def deleted_accounts(self, caller: str, after: int) -> tuple[answers.DeletedAccount, ...]:
        """Accounts that were deleted, from a number on; ``caller`` is who asks, no account."""
        answer = await self.ask(caller, "GET", "/v1/deleted-accounts", params={"after": str(after)})
        return self.read(answers.DeletedAccounts, answer).items

    async def invitation(self, account_id: str, token: str) -> answers.LinkedInvitation:
        """The invitation behind a link.

        Raises:
            Refused: ``INVALID_LINK``, also for everybody whom it does not concern.
        """
        body = {"token": token}
        answer = await self.ask(account_id, "POST", "/v1/invitation-links", json=body, attempts=2)
        return self.read(answers.LinkedInvitation, answer)


class Gateway(Peer):
    """Opens and closes connections to services; ``others`` are gateways that relay beside it."""

    def __init__(
        self,
        client: httpx.AsyncClient,
        tokens: InternalTokens,
        *,
        name: str,
        url: str,
        others: Sequence[str] = (),
    ) -> None:
        super().__init__(client, tokens, name=name, url=url)
        self._all: list[Peer] = [self, *(Peer(client, tokens, name=name, url=other) for other in others)]

    async def connect(
        self, account_id: str, service_id: str, host_ip: str, position: str | None
    ) -> answers.Connection:
        """Open a port for one source address; raises Refused ``ACCESS_DENIED`` for all not granted."""
        body = {"service_id": service_id, "host_ip": host_ip}
        answer = await self.ask(account_id, "POST", "/v1/connections", json=body, position=position)
        return self.read(answers.Connection, answer)

    async def disconnect(self, account_id: str, connection_id: str) -> None:
        """Close a connection of one's own, or cut one to a device of one's own, at whichever gateway it is.

        Raises:
            Refused: there is none of that id.
            Unavailable: a gateway where it may be does not answer.
        """
        path = f"/v1/connections/{quote(connection_id, safe='')}"
        answers_of_all = await asyncio.gather(
            *(gateway.ask(account_id, "DELETE", path, attempts=2) for gateway in self._all),
            return_exceptions=True,
        )
        failures = [answer for answer in answers_of_all if isinstance(answer, BaseException)]
        if len(failures) == len(self._all):
            raise next((each for each in failures if not isinstance(each, Refused)), failures[0])

    async def stream_password(self, account_id: str, service_id: str) -> answers.StreamPassword:
        """Where a camera's stream is, and a password for it; whoever comes with it is checked then."""
        body = {"service_id": service_id}
        answer = await self.ask(account_id, "POST", "/v1/stream-passwords", json=body, attempts=2)
        return self.read(answers.StreamPassword, answer)

    async def create_agent_code(self, account_id: str, device_id: str) -> answers.AgentCode:
        """A code for a device of the account's; raises Refused ``DEVICE_NOT_FOUND`` for all others."""
        body = {"device_id": device_id}
        return self.read(
            answers.AgentCode, await self.ask(account_id, "POST", "/v1/agent-codes", json=body, attempts=2)
        )

    async def remove_agent(self, account_id: str, device_id: str) -> None:
        """Void the key of a device of the account's; raises Refused ``DEVICE_NOT_FOUND`` for all others."""
        await self.ask(account_id, "DELETE", f"/v1/agents/{quote(device_id, safe='')}", attempts=2)
