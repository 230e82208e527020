"""The upstream registry of devices, which gives them their names (docs/architecture.md, `REGISTRY_URL`)."""

from http import HTTPStatus
from urllib.parse import quote

import httpx

from portal.errors import Refused, Unavailable
from portal.peers import TIMEOUT
from servicekit.logging import get_logger

log = get_logger(__name__)


class Registry:
    """The registry that devices belong to: it gives them their names. ``token`` lets the portal ask."""

    def __init__(self, client: httpx.AsyncClient, url: str, token: str) -> None:
        self._client, self._url, self._token = client, url, token

    async def rename(self, device_id: str, owner_id: str, name: str) -> None:
        """Give a device another name, if the account still owns it.

        Raises:
            Refused: ``DEVICE_NOT_FOUND``, also when it has another owner by now.
            Unavailable: the registry does not answer, or not as agreed.
        """
        try:
            answer = await self._client.patch(
                f"{self._url}/devices/{quote(device_id, safe='')}",
                json={"name": name, "owner_account_id": owner_id},
                headers={"Authorization": f"Bearer {self._token}"},
                timeout=TIMEOUT,
            )
        except httpx.HTTPError as error:
            log.warning("peer_unreachable", peer="registry", error=type(error).__name__)
            raise Unavailable from error
        if answer.status_code == HTTPStatus.NOT_FOUND:
            raise Refused("DEVICE_NOT_FOUND", 404, "There is no such device among yours.")
        if not answer.is_success:
            log.error("peer_misanswered", peer="registry", status=answer.status_code)
            raise Unavailable
