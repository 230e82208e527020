"""A program's view of a running stack: ask the portal as somebody, and use what is shared."""

import asyncio
import contextlib
import time
from typing import Any

import httpx

SHARE = """
mutation($devices: [String!], $email: [String!]!, $services: [ServiceSharingOptions!], $action: SharingAction,
    $notify: Boolean) {
  share(deviceIds: $devices, email: $email, services: $services, action: $action, notify: $notify)
}
"""
INVITATIONS = "{ login { invitations { id device { id name } owner { email } invitationVersion } } }"
DEVICES = """
{ login { email devices { total items {
  id name owner { email } access { user { email } } services { id name }
} } } }
"""
ACCEPT = """
mutation($device: String!, $share: String!, $version: Int!) {
  acceptInvitation(deviceId: $device, shareId: $share, invitationVersion: $version)
}
"""
REJECT = (
    "mutation($device: String!, $share: String!) { rejectInvitation(deviceId: $device, shareId: $share) }"
)
CONNECT = "mutation($service: String!) { connect(serviceId: $service) { id host port timeout } }"

_VISIBLE_SECONDS = 15.0


class RefusedError(Exception):
    """The portal refused; ``code`` is the stable code of the first error."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code


class Account:
    """Somebody at the portal, who is never answered from before the position of his last answer."""

    def __init__(self, http: httpx.AsyncClient, token: str) -> None:
        self._http, self._token = http, token
        self.position = ""

    async def ask(self, query: str, **variables: object) -> dict[str, Any]:
        """The data of a GraphQL answer; asks again while it is not yet visible, for at most 15 s.

        Raises:
            RefusedError: the answer has errors.
        """
        deadline = time.monotonic() + _VISIBLE_SECONDS
        while True:
            headers = {"Authorization": f"Bearer {self._token}"}
            if self.position:
                headers["Latchkey-Position"] = self.position
            body = {"query": query, "variables": variables}
            answer = await self._http.post("/graphql/v1", json=body, headers=headers)
            document = answer.json()
            if not document.get("errors"):
                self.position = answer.headers.get("latchkey-position", self.position)
                return document["data"]
            error = document["errors"][0]
            refusal = RefusedError(error.get("extensions", {}).get("code", "UNKNOWN"), error["message"])
            if refusal.code != "NOT_YET_VISIBLE" or time.monotonic() > deadline:
                raise refusal

    async def share(self, device: str, email: str, **options: object) -> None:
        """The `share` mutation."""
        await self.ask(SHARE, devices=[device], email=[email], **options)

    async def invitation(self, device: str) -> dict[str, Any] | None:
        """The open invitation to ``device``, if there is one."""
        items = (await self.ask(INVITATIONS))["login"]["invitations"]
        return next((item for item in items if item["device"]["id"] == device), None)

    async def accept(self, device: str) -> None:
        """Accept the open invitation to ``device``."""
        invitation = await self.invitation(device)
        if invitation is None:
            raise RefusedError("NO_INVITATION", f"there is no invitation to {device}")
        version = invitation["invitationVersion"]
        await self.ask(ACCEPT, device=device, share=invitation["id"], version=version)

    async def connect(self, service: str) -> dict[str, Any]:
        """A way to ``service``: id, host, port."""
        return (await self.ask(CONNECT, service=service))["connect"]


async def until_closed(reader: asyncio.StreamReader) -> float:
    """The time (seconds since 1970) at which the other side has ended the connection."""
    with contextlib.suppress(ConnectionError):
        while await reader.read(65536):
            pass
    return time.time()
