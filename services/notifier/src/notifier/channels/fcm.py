"""FCM HTTP v1: a message to an app on Android or iOS, by a service account's access token (RFC 7523)."""

import asyncio
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import httpx
from joserfc import jwt
from joserfc.jwk import RSAKey
from pydantic import BaseModel, SecretStr

from notifier.channels.answers import deferred, post
from notifier.errors import DeferredError, RefusedError

_SCOPE: Final = "https://www.googleapis.com/auth/firebase.messaging"
_GRANT: Final = "urn:ietf:params:oauth:grant-type:jwt-bearer"
_MARGIN_SECONDS: Final = 60.0


class ServiceAccount(BaseModel):
    """The part that is used of the JSON file that Google gives for a service account."""

    project_id: str
    client_email: str
    private_key: SecretStr
    private_key_id: str
    token_uri: str

    @classmethod
    def read(cls, path: Path) -> "ServiceAccount":
        """The account in a file; raises ValueError (pydantic's) or OSError."""
        return cls.model_validate_json(path.read_bytes())


@dataclass(frozen=True, slots=True)
class AppPush:
    """A message to one app. ``collapse``: a newer one replaces an undelivered older one; ``ttl`` is in s."""

    token: str
    title: str
    body: str
    data: Mapping[str, str]
    ttl: int
    urgent: bool
    collapse: str


class FcmChannel:
    """Hands messages to FCM at ``url`` (``https://fcm.googleapis.com``)."""

    def __init__(self, client: httpx.AsyncClient, account: ServiceAccount, url: str) -> None:
        self._client, self._account = client, account
        self._key = RSAKey.import_key(account.private_key.get_secret_value())
        self._url = f"{url}/v1/projects/{account.project_id}/messages:send"
        self._token, self._token_ends = "", 0.0
        self._lock = asyncio.Lock()

    async def send(self, push: AppPush) -> None:
        """Hand it over.

        Raises:
            DeferredError: ``FCM_DEFERRED``, ``FCM_UNREACHABLE``, ``FCM_SETUP`` (our account is refused).
            RefusedError: ``SUBSCRIPTION_GONE``, or ``FCM_REFUSED``: this message will never be taken.
        """
        answer = await self._post(push)
        if answer.status_code == 401:  # the token was withdrawn before its end
            self._token_ends = 0.0
            answer = await self._post(push)
        if answer.is_success:
            return
        status, code = answer.status_code, _error_code(answer)
        if code in {"UNREGISTERED", "SENDER_ID_MISMATCH"} or status == 404:
            raise RefusedError("SUBSCRIPTION_GONE", "The app is gone there.", status, gone=True)
        if status in {401, 403}:
            raise DeferredError("FCM_SETUP", "FCM refuses our service account: mend the settings.", status)
        if status == 429 or status >= 500:
            raise deferred("FCM_DEFERRED", answer)
        raise RefusedError("FCM_REFUSED", "FCM refuses the message.", status, gone=code == "INVALID_ARGUMENT")

    async def _post(self, push: AppPush) -> httpx.Response:
        message = {
            "token": push.token,
            "notification": {"title": push.title, "body": push.body},
            "data": dict(push.data),
            "android": {
                "priority": "HIGH" if push.urgent else "NORMAL",
                "ttl": f"{push.ttl}s",
                "collapse_key": push.collapse,
            },
            "apns": {
                "headers": {
                    "apns-priority": "10" if push.urgent else "5",
                    "apns-expiration": str(int(time.time()) + push.ttl),
                    "apns-collapse-id": push.collapse,
                }
            },
        }
        headers = {"Authorization": f"Bearer {await self._access_token()}"}
        return await post(
            self._client, self._url, "FCM_UNREACHABLE", json={"message": message}, headers=headers
        )

    async def _access_token(self) -> str:
        async with self._lock:
            if time.monotonic() >= self._token_ends:
                await self._fetch_token()
            return self._token

    async def _fetch_token(self) -> None:
        now = int(time.time())
        account = self._account
        claims = {
            "iss": account.client_email,
            "scope": _SCOPE,
            "aud": account.token_uri,
            "iat": now,
            "exp": now + 3600,
        }
        assertion = jwt.encode({"alg": "RS256", "kid": account.private_key_id}, claims, self._key)
        form = {"grant_type": _GRANT, "assertion": assertion}
        answer = await post(self._client, account.token_uri, "FCM_UNREACHABLE", data=form)
        if answer.status_code == 429 or answer.status_code >= 500:
            raise deferred("FCM_DEFERRED", answer)
        try:
            document: dict[str, Any] = answer.raise_for_status().json()
            self._token = str(document["access_token"])
            self._token_ends = time.monotonic() + float(document["expires_in"]) - _MARGIN_SECONDS
        except (httpx.HTTPStatusError, ValueError, KeyError, TypeError):
            raise DeferredError(
                "FCM_SETUP",
                "The token service refuses our service account: mend the settings.",
                answer.status_code,
            ) from None


def _error_code(answer: httpx.Response) -> str:
    """FCM's own error code, where it gives one."""
    try:
        details: list[dict[str, Any]] = json.loads(answer.content)["error"]["details"]
        return next(str(item["errorCode"]) for item in details if "errorCode" in item)
    except (ValueError, KeyError, TypeError, StopIteration):
        return ""
