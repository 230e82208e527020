"""Every published message has one example that is read, for ever, as it was meant.

An example that has to be edited is a breaking change: it needs a new version of the type and an ADR.
"""

import json
from importlib import resources
from typing import Any

import pytest

from contracts.codec import TYPES, DecodeError, decode, encode

GOLDEN = resources.files("contracts").joinpath("golden")
EXAMPLES = sorted(item.name for item in GOLDEN.iterdir() if item.name.endswith(".json"))


def test_every_type_has_an_example() -> None:
    assert {f"latchkey.{name.removesuffix('.json')}" for name in EXAMPLES} == set(TYPES)


@pytest.mark.parametrize("name", EXAMPLES)
def test_example_is_read_and_written_unchanged(name: str) -> None:
    """Fields that were added since may stand beside those of the example, with what they are by default."""
    text = GOLDEN.joinpath(name).read_bytes()
    message = decode(text)
    assert type(message.data) is TYPES[f"latchkey.{name.removesuffix('.json')}"]
    written = json.loads(encode(message))
    assert kept(written, json.loads(text)) == json.loads(text)
    assert decode(encode(message)) == message


def kept(written: Any, example: Any) -> Any:
    """``written`` without the fields of objects that the example does not have."""
    if isinstance(written, dict) and isinstance(example, dict):
        return {name: kept(value, example[name]) for name, value in written.items() if name in example}  # pyright: ignore[reportUnknownVariableType] - JSON
    if isinstance(written, list) and isinstance(example, list) and len(written) == len(example):  # pyright: ignore[reportUnknownArgumentType] - JSON
        return [kept(one, other) for one, other in zip(written, example, strict=True)]  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType] - JSON
    return written  # pyright: ignore[reportUnknownVariableType] - JSON


@pytest.mark.parametrize("name", EXAMPLES)
def test_a_newer_writer_may_add_fields_to_facts_but_not_to_orders(name: str) -> None:
    example = json.loads(GOLDEN.joinpath(name).read_text())
    example["data"]["a_field_of_tomorrow"] = 1
    example["extensionoftomorrow"] = "x"
    text = json.dumps(example).encode()
    is_order = "actor" in example["data"]
    if is_order:
        with pytest.raises(DecodeError) as refusal:
            decode(text)
        assert refusal.value.code == "INVALID_DATA"
    else:
        assert decode(text).data == decode(GOLDEN.joinpath(name).read_bytes()).data
