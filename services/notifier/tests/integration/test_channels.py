"""Pushes and short messages, by the real clients, to local servers that speak the real protocols."""

import json
from collections.abc import AsyncGenerator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import httpx
import pytest
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric import ec
from providers import Browser, Providers, claims_of_vapid, running

from devstack.keys import new_internal_key
from notifier.channels.fcm import AppPush, FcmChannel, ServiceAccount
from notifier.channels.sms import SmsChannel, septets, spelled
from notifier.channels.web_push import Push, WebPushChannel, decoded, encrypt, is_allowed
from notifier.errors import DeferredError, HandoverError, RefusedError


@pytest.fixture
async def providers() -> AsyncGenerator[Providers]:
    async with running() as found:
        yield found


@pytest.fixture
async def client() -> AsyncGenerator[httpx.AsyncClient]:
    async with httpx.AsyncClient(timeout=10) as found:
        yield found


def web_push(client: httpx.AsyncClient, providers: Providers) -> WebPushChannel:
    private, _ = new_internal_key()
    return WebPushChannel(
        client, private_jwk=private, contact="mailto:ops@example.com", hosts=(providers.address,)
    )


def push(providers: Providers, browser: Browser, payload: bytes = b"hello") -> Push:
    return Push(
        endpoint=f"{providers.url}/push/1",
        public_key=browser.keys["p256dh"],
        auth_secret=browser.keys["auth"],
        payload=payload,
        ttl=60,
        urgency="high",
        topic="t" * 32,
    )


def test_the_encryption_is_that_of_the_standard() -> None:
    """RFC 8291, section 5 and appendix A."""
    private = int.from_bytes(decoded("yfWPiYE-n46HLnH0KqZOF1fJJU3MYrct3AELtAQ-oRw"), "big")
    sealed = encrypt(
        b"When I grow up, I want to be a watermelon",
        decoded("BCVxsr7N_eNgVRqvHtD0zTZsEc6-VV-JvLexhqUzORcxaOzi6-AYWXvTBHm4bjyPjs7Vd8pZGH6SRpkNtoIAiw4"),
        decoded("BTBZMqHH6r4Tts7J_aSIgg"),
        sender=ec.derive_private_key(private, ec.SECP256R1()),
        salt=decoded("DGv6ra1nlYgDCS1FRnbzlw"),
    )
    assert sealed == decoded(
        "DGv6ra1nlYgDCS1FRnbzlwAAEABBBP4z9KsN6nGRTbVYI_c7VJSPQTBtkgcy27mlmlMoZIIgDll6e3vCYLocInmYWAmS6TlzAC8w"
        "EqKK6PBru3jl7A_yl95bQpu6cVPTpK4Mqgkf1CXztLVBSt2Ks3oZwbuwXPXLWyouBWLVWGNWQexSgSxsj_Qulcy4a-fN"
    )


async def test_a_push_can_be_read_by_its_browser_alone_and_is_signed(
    client: httpx.AsyncClient, providers: Providers
) -> None:
    browser, channel = Browser(), web_push(client, providers)
    for _ in range(2):
        await channel.send(push(providers, browser))
    first, second = providers.asked
    assert browser.read(first["body"]) == browser.read(second["body"]) == b"hello"
    assert first["body"] != second["body"]
    with pytest.raises(InvalidTag):
        Browser().read(first["body"])
    assert {name: first["headers"][name] for name in ("ttl", "urgency", "topic", "content-encoding")} == {
        "ttl": "60", "urgency": "high", "topic": "t" * 32, "content-encoding": "aes128gcm"
    }  # fmt: skip
    claims = claims_of_vapid(first["headers"]["authorization"], providers.url)
    assert claims["sub"] == "mailto:ops@example.com"
    ahead = claims["exp"] - datetime.now(UTC).timestamp()
    assert 3600 < ahead <= 24 * 3600
    assert first["headers"]["authorization"].endswith(channel.public_key)


@pytest.mark.parametrize(
    ("status", "code", "kind", "gone"),
    [
        (404, "SUBSCRIPTION_GONE", RefusedError, True),
        (410, "SUBSCRIPTION_GONE", RefusedError, True),
        (413, "PUSH_REFUSED", RefusedError, False),
        (400, "PUSH_REFUSED", RefusedError, False),
        (403, "PUSH_FORBIDDEN", DeferredError, None),
        (429, "PUSH_DEFERRED", DeferredError, None),
        (500, "PUSH_DEFERRED", DeferredError, None),
        (307, "PUSH_REFUSED", RefusedError, False),
    ],
)
async def test_what_a_push_service_answers_decides_what_follows(  # noqa: PLR0917 - the cases
    client: httpx.AsyncClient,
    providers: Providers,
    status: int,
    code: str,
    kind: type[HandoverError],
    gone: bool | None,
) -> None:
    providers.answers.append((status, {"Retry-After": "120", "Location": "http://127.0.0.1:1/"}, None))
    with pytest.raises(kind) as error:
        await web_push(client, providers).send(push(providers, Browser()))
    assert (error.value.code, error.value.reply) == (code, status)
    if isinstance(error.value, RefusedError):
        assert error.value.gone is gone
    if code == "PUSH_DEFERRED":
        assert isinstance(error.value, DeferredError)
        assert error.value.retry_after == 120


async def test_a_time_to_come_again_may_be_a_date(client: httpx.AsyncClient, providers: Providers) -> None:
    later = format_datetime(datetime.now(UTC) + timedelta(minutes=5), usegmt=True)
    providers.answers += [(503, {"Retry-After": later}, None), (503, {"Retry-After": "soon"}, None)]
    channel = web_push(client, providers)
    with pytest.raises(DeferredError) as dated:
        await channel.send(push(providers, Browser()))
    assert dated.value.retry_after is not None
    assert 200 < dated.value.retry_after <= 300
    with pytest.raises(DeferredError) as vague:
        await channel.send(push(providers, Browser()))
    assert vague.value.retry_after is None


@pytest.mark.parametrize(
    ("endpoint", "allowed"),
    [
        ("https://updates.push.services.mozilla.com/wpush/v2/x", True),
        ("https://web.push.apple.com/x", True),
        ("https://push.apple.com/x", False),
        ("http://updates.push.services.mozilla.com/x", False),
        ("https://updates.push.services.mozilla.com:8443/x", False),
        ("https://updates.push.services.mozilla.com@evil.example/x", False),
        ("https://updates.push.services.mozilla.com.evil.example/x", False),
        ("https://127.0.0.1/x", False),
        ("http://127.0.0.1:9000/x", True),
        ("http://127.0.0.1:9001/x", False),
        ("http://localhost:9000/x", False),
        ("https://[::1/x", False),
        ("file:///etc/passwd", False),
    ],
)
async def test_nothing_is_sent_to_hosts_that_are_no_push_services(
    client: httpx.AsyncClient, endpoint: str, allowed: bool
) -> None:
    hosts = ("updates.push.services.mozilla.com", "*.push.apple.com", "127.0.0.1:9000")
    assert is_allowed(endpoint, hosts) is allowed


async def test_an_app_gets_what_fcm_takes_and_one_token_serves_many(
    client: httpx.AsyncClient, providers: Providers
) -> None:
    account = ServiceAccount.model_validate_json(providers.service_account())
    channel = FcmChannel(client, account, providers.url)
    message = AppPush("app-token", "Title", "Body", {"share_id": "s"}, 60, urgent=True, collapse="c" * 32)
    await channel.send(message)
    await channel.send(message)
    first, _ = providers.asked
    assert first["path"] == "/v1/projects/latchkey-test/messages:send"
    assert first["headers"]["authorization"] == "Bearer token-1"
    body = json.loads(first["body"])["message"]
    assert (body["token"], body["notification"]) == ("app-token", {"title": "Title", "body": "Body"})
    assert body["android"] == {"priority": "HIGH", "ttl": "60s", "collapse_key": "c" * 32}
    assert body["apns"]["headers"]["apns-priority"] == "10"
    assert len(body["apns"]["headers"]["apns-collapse-id"]) <= 64
    assert providers.tokens == 1

    providers.answers.append((401, {}, None))  # withdrawn: another one is fetched
    await channel.send(message)
    assert providers.tokens == 2

    unregistered = {"error": {"details": [{"errorCode": "UNREGISTERED"}]}}
    for answer, code, gone in (
        ((404, dict[str, str](), unregistered), "SUBSCRIPTION_GONE", True),
        (
            (400, dict[str, str](), {"error": {"details": [{"errorCode": "INVALID_ARGUMENT"}]}}),
            "FCM_REFUSED",
            True,
        ),
        ((503, {"Retry-After": "7"}, None), "FCM_DEFERRED", None),
        ((403, dict[str, str](), None), "FCM_SETUP", None),
        ((400, dict[str, str](), None), "FCM_REFUSED", False),
    ):
        providers.answers.append(answer)
        with pytest.raises(HandoverError) as error:
            await channel.send(message)
        assert error.value.code == code
        assert getattr(error.value, "gone", None) is gone


async def test_a_short_message_is_one_message(client: httpx.AsyncClient, providers: Providers) -> None:
    channel = SmsChannel(client, url=f"{providers.url}/sms", token="t", sender="Latchkey")
    await channel.send("+4915112345678", "Hello", "key-1")
    (asked,) = providers.asked
    assert json.loads(asked["body"]) == {
        "to": "+4915112345678", "from": "Latchkey", "text": "Hello", "key": "key-1"
    }  # fmt: skip
    assert asked["headers"]["authorization"] == "Bearer t"
    for text in ("x" * 161, "€" * 81, "привет"):
        with pytest.raises(RefusedError):
            await channel.send("+4915112345678", text, "key-2")
    assert len(providers.asked) == 1
    for status, kind, code in (
        (404, RefusedError, "RECIPIENT_REFUSED"),
        (429, DeferredError, "SMS_DEFERRED"),
        (401, DeferredError, "SMS_SETUP"),
        (400, RefusedError, "SMS_REFUSED"),
    ):
        providers.answers.append((status, {}, None))
        with pytest.raises(kind) as error:
            await channel.send("+4915112345678", "Hello", "key-3")
        assert error.value.code == code


def test_what_the_gsm_alphabet_lacks_is_spelled_without() -> None:
    assert septets("Grüße, 5 €") == 11
    assert septets("ç") is None
    assert spelled("Łódź “café” — 東京 ok") == 'odz "café" - ok'
