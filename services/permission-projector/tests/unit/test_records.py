"""Bytes that cannot be used are refused with a code, whatever they are."""

import json
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.events import ShareRequested
from permission_projector.records import (
    UnreadableError,
    UnreadableKeyError,
    read_account,
    read_contact,
    read_device,
    read_device_key,
    read_share_event,
    read_watermark,
)

SHARE_ID, CONTACT_ID = str(UUID(int=1)), str(UUID(int=2))


def _bytes(kind: str, data: dict[str, Any], **attributes: Any) -> bytes:
    return json.dumps(
        {
            "specversion": "1.0", "id": str(UUID(int=7)), "type": f"latchkey.{kind}.v1", "source": "test",
            "time": "2026-01-01T00:00:00Z", "data": data, **attributes,
        }
    ).encode()  # fmt: skip


def _left(**attributes: Any) -> bytes:
    data = {
        "share_id": SHARE_ID, "device_id": "cam-1", "contact_id": CONTACT_ID,
        "owner_account_id": "olga", "account_id": "ravi",
    }  # fmt: skip
    return _bytes("ShareLeft", data, **{"version": 3, **attributes})


def _requested(**fields: Any) -> bytes:
    data = {
        "share_id": SHARE_ID, "device_id": "cam-1", "contact_id": CONTACT_ID, "owner_account_id": "olga",
        "terms": {"scope": {"kind": "all"}, **fields.pop("window", {})}, **fields,
    }  # fmt: skip
    return _bytes("ShareRequested", data, version=3)


def _device(**fields: Any) -> bytes:
    data = {"device_id": "cam-1", "owner_account_id": "olga", "name": "Camera", "kind": "camera", **fields}
    return _bytes("DeviceSnapshot", data)


def _service(**fields: Any) -> dict[str, Any]:
    return {
        "service_id": "s", "name": "S", "protocol": "tcp", "target": {"host": "h", "port": 1}, **fields
    }  # fmt: skip


@pytest.mark.parametrize("key", [None, b"", b"\xff\xfe", b"two words", b"a" * 65, b"cam\x001", b"cam-1\n"])
def test_a_key_that_names_no_device(key: bytes | None) -> None:
    with pytest.raises(UnreadableKeyError):
        read_device_key(key)


@pytest.mark.parametrize(
    ("value", "code"),
    [
        (None, "MALFORMED"),
        (b"", "MALFORMED"),
        (b"\x00\xff", "MALFORMED"),
        (b"x" * 1_000_001, "TOO_LARGE"),
        (_left(type="latchkey.ShareUpgraded.v9"), "UNKNOWN_TYPE"),
        (_device(), "UNEXPECTED_TYPE"),
        (_left(version=None), "INVALID_DATA"),
        (_left(version=10**18), "NOT_STORABLE"),
        (_left(id="not-a-uuid"), "INVALID_DATA"),
        (_left(time="0001-01-01T00:00:00+23:00"), "NOT_STORABLE"),
        (_left().replace(b"cam-1", b"cam-2"), "KEY_MISMATCH"),
        (_requested(expires_at="9999-12-31T23:59:59-10:00"), "NOT_STORABLE"),
        (_requested(window={"starts_at": "0001-01-01T00:00:00+10:00"}), "NOT_STORABLE"),
        (_requested(window={"ends_at": "9999-12-31T23:59:59-10:00"}), "NOT_STORABLE"),
        (_requested(window={"ends_at": "2026-01-01T00:00:00"}), "INVALID_DATA"),
    ],
)
def test_a_share_event_that_cannot_be_used(value: bytes | None, code: str) -> None:
    with pytest.raises(UnreadableError) as refused:
        read_share_event("cam-1", value)
    assert refused.value.code == code


def test_the_times_of_a_share_are_kept_in_one_zone() -> None:
    window = {"starts_at": "2026-01-01T09:00:00+02:00", "ends_at": "2026-01-01T17:00:00.5-05:30"}
    event = read_share_event("cam-1", _requested(window=window, expires_at="2026-02-01T00:00:00+14:00"))
    data = event.event.data
    assert isinstance(data, ShareRequested)
    assert '"starts_at":"2026-01-01T07:00:00Z"' in data.terms.model_dump_json()
    assert '"ends_at":"2026-01-01T22:30:00.500000Z"' in data.terms.model_dump_json()
    assert str(data.expires_at) == "2026-01-31 10:00:00+00:00"


@pytest.mark.parametrize(
    ("value", "code"),
    [
        (_left(), "UNEXPECTED_TYPE"),
        (_device(device_id="cam-2"), "KEY_MISMATCH"),
        (_device(name="a\0b"), "INVALID_DATA"),
        (_device(kind="\0"), "INVALID_DATA"),
        (_device(services=[_service(), _service()]), "INVALID_DATA"),
        (_device(services=[_service(name="\0")]), "INVALID_DATA"),
        (_device(services=[_service(protocol="\0")]), "INVALID_DATA"),
        (_device(services=[_service(target={"host": "\0", "port": 1})]), "INVALID_DATA"),
        (_device(services=[_service(channel=2**31)]), "NOT_STORABLE"),
        (_device(services=[_service(permissions=["fly"])]), "INVALID_DATA"),
        (_device(services=[_service(stream={"live": "rtsp://elsewhere/"})]), "INVALID_DATA"),
        (_device(services=[_service(stream={"live": "/a b"})]), "INVALID_DATA"),
        (_device(services=[_service(stream={"live": "/a\r\nb"})]), "INVALID_DATA"),
        (_device(services=[_service(stream={"live": "/a\n"})]), "INVALID_DATA"),
        (_device(services=[_service(stream={"live": "/{other}"}, channel=1)]), "INVALID_DATA"),
        (_device(services=[_service(stream={"recording": "/tracks/{channel}01"})]), "INVALID_DATA"),
        (_device(created_at="9999-12-31T23:59:59-10:00"), "NOT_STORABLE"),
    ],
)
def test_a_device_that_cannot_be_used(value: bytes, code: str) -> None:
    with pytest.raises(UnreadableError) as refused:
        read_device("cam-1", value)
    assert refused.value.code == code


def test_an_account_keeps_its_verified_addresses_in_one_form() -> None:
    emails = ["Ann@Example.com", "not an address", "ann@example.com", "b@bücher.example", "+49 151 12345678"]
    phones = ["+49 (151) 1234-5679", "0151 12345678", "+4915112345679", "c@example.com"]
    value = _bytes(
        "AccountSnapshot",
        {"account_id": "ann", "name": "Ann", "verified_emails": emails, "verified_phones": phones},
    )
    _, account = read_account(b"ann", value)
    assert account is not None
    assert account.addresses == (
        "mailto:ann@example.com", "mailto:b@xn--bcher-kva.example", "tel:+4915112345679",
    )  # fmt: skip
    assert read_account(b"ann", None) == ("ann", None)
    for key in (None, b"bob", b"\xff", b"a\0"):
        with pytest.raises(UnreadableError):
            read_account(key, value)


def test_a_contact() -> None:
    value = _bytes("ContactSnapshot", {"contact_id": CONTACT_ID, "address": "mailto:ann@example.com"})
    contact_id, contact = read_contact(CONTACT_ID.encode(), value)
    assert contact is not None
    assert (contact_id, contact.address) == (UUID(CONTACT_ID), "mailto:ann@example.com")
    assert read_contact(CONTACT_ID.encode(), None) == (contact_id, None)
    for key in (None, b"\xff", SHARE_ID.encode()):
        with pytest.raises(UnreadableError):
            read_contact(key, value)


def test_a_watermark_that_does_not_tell_of_both_topics_proves_nothing() -> None:
    told = {"topic_id": "x", "end_offsets": {"0": 5, "23": 7}}
    value = _bytes(
        "Watermark",
        {"as_of": "2026-01-01T00:00:00Z", "topics": {"share.events": told, "directory.devices": told}},
    )
    watermark = read_watermark(value, "p.")
    assert (watermark.events.topic, watermark.devices.topic) == ("p.share.events", "p.directory.devices")
    assert watermark.events.end_offsets == (5, *[None] * 22, 7)
    with pytest.raises(UnreadableError):
        read_watermark(value.replace(b"share.events", b"p.share.events"), "p.")


@given(st.binary(max_size=60) | st.none())
def test_any_bytes_are_refused_with_a_code(value: bytes | None) -> None:
    with pytest.raises(UnreadableError):
        read_share_event("cam-1", value)
    with pytest.raises(UnreadableError):
        read_watermark(value, "")
    if value is not None:
        for refuse in (lambda: read_device("a", value), lambda: read_account(b"a", value)):
            with pytest.raises(UnreadableError):
                refuse()
