"""Bytes that are no message of ours get a stable code, and nothing private is repeated."""

import json
from datetime import UTC, datetime
from importlib import resources
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts import codec
from contracts.base import new_id, new_id_text
from contracts.codec import DecodeError, decode, decode_as
from contracts.commands import RequestShare
from contracts.events import ConnectionClosed, ShareAccepted


def example(name: str) -> dict[str, Any]:
    return json.loads(resources.files("contracts").joinpath(f"golden/{name}.v1.json").read_text())


def refused(value: bytes | None) -> DecodeError:
    with pytest.raises(DecodeError) as refusal:
        decode(value)
    return refusal.value


@pytest.mark.parametrize(
    ("value", "code"),
    [
        (None, "MALFORMED"),
        (b"", "MALFORMED"),
        (b"{", "MALFORMED"),
        (b"[]", "MALFORMED"),
        (b"\xff\xfe", "MALFORMED"),
        (b"{}", "MALFORMED"),
        (b" " * (codec.MAX_BYTES + 1), "TOO_LARGE"),
    ],
)
def test_what_is_no_cloudevent_is_named(value: bytes | None, code: str) -> None:
    assert refused(value).code == code


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"type": "latchkey.ShareExploded.v1"}, "UNKNOWN_TYPE"),
        ({"type": "latchkey.ShareAccepted.v2"}, "UNKNOWN_TYPE"),
        ({"specversion": "0.3"}, "MALFORMED"),
        ({"time": "yesterday"}, "MALFORMED"),
        ({"time": "2026-01-01T00:00:00"}, "MALFORMED"),
        ({"version": 0}, "MALFORMED"),
        ({"data": []}, "MALFORMED"),
        ({"data": {}}, "INVALID_DATA"),
        ({"data": {**example("ShareAccepted")["data"], "extra": [{"a": "b\0"}]}}, "INVALID_DATA"),
        ({"subject": "\0"}, "INVALID_DATA"),
    ],
)
def test_what_does_not_fit_is_named(change: dict[str, object], code: str) -> None:
    assert refused(json.dumps({**example("ShareAccepted"), **change}).encode()).code == code


def test_a_message_on_the_wrong_topic_is_named() -> None:
    text = json.dumps(example("ShareAccepted")).encode()
    assert decode_as(text, ShareAccepted)[1].account_id == "acc-bob"
    with pytest.raises(DecodeError) as refusal:
        decode_as(text, RequestShare)
    assert refusal.value.code == "UNEXPECTED_TYPE"


def test_the_reason_names_the_field_and_repeats_no_value() -> None:
    message = example("RequestShare")
    message["data"]["recipients"] = [{"secret": "bob@example.test"}]
    error = refused(json.dumps(message).encode())
    assert error.code == "INVALID_DATA"
    assert "recipients.0" in str(error)
    assert "bob" not in str(error)


@given(st.binary(max_size=400))
def test_random_bytes_never_do_more_than_refuse(value: bytes) -> None:
    assert refused(value).code in {"MALFORMED", "UNKNOWN_TYPE"}


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)


@given(st.sampled_from(sorted(codec.TYPES)), JSON)
def test_random_data_under_a_known_type_never_does_more_than_refuse(name: str, data: object) -> None:
    message = {**example("ShareAccepted"), "type": name, "data": data}
    try:
        decode(json.dumps(message).encode())
    except DecodeError as error:
        assert error.code in {"MALFORMED", "INVALID_DATA"}


@pytest.mark.parametrize(
    "name", ["ConnectionOpened", "ConnectionRefused", "ConnectionClosed", "ConnectionCut", "ShareRequested"]
)
@pytest.mark.parametrize("optional", [None, 'a "quoted" näme'])
def test_the_quick_way_makes_the_bytes_of_the_other(name: str, optional: str | None) -> None:
    data = decode(json.dumps(example(name)).encode()).data
    time = datetime(2026, 5, 1, 12, 30, 0, 250_000, tzinfo=UTC)
    quick = codec.encoded(data, source="s", time=time, subject=optional, correlationid=optional)
    whole = codec.envelope(data, source="s", time=time, subject=optional, correlationid=optional)
    assert quick.replace(json.loads(quick)["id"].encode(), whole.id.encode()) == codec.encode(whole)
    assert decode(quick).data == data


@pytest.mark.parametrize("optional", [None, "100 % of it"])
def test_a_filled_in_mold_is_the_message_that_is_encoded(optional: str | None) -> None:
    data = decode(json.dumps(example("ConnectionClosed")).encode()).data
    assert isinstance(data, ConnectionClosed)
    data = data.model_copy(update={"gateway_id": '50%s of "gw"', "seconds": 0.000001})
    other = data.model_copy(update={"connection_id": new_id(), "bytes_to_device": 9, "seconds": 0.0})
    form = codec.mold(
        other,
        source="s",
        subject=optional,
        correlationid=optional,
        texts=("connection_id",),
        numbers=("bytes_to_device", "seconds"),
    )
    filled = form % {
        "id": new_id_text(),
        "time": "2026-03-01T12:00:00.123456Z",
        "connection_id": str(data.connection_id),
        "bytes_to_device": data.bytes_to_device,
        "seconds": data.seconds,
    }
    time = datetime(2026, 3, 1, 12, 0, 0, 123456, tzinfo=UTC)
    wanted = decode(codec.encoded(data, source="s", time=time, subject=optional, correlationid=optional))
    assert decode(filled.encode()).model_dump(exclude={"id"}) == wanted.model_dump(exclude={"id"})
