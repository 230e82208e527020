"""Every published message has one example that is read, for ever, as it was meant.

An example that has to be edited is a breaking change: it needs a new version of the type and an ADR.
"""

import json
from importlib import resources

import pytest

from contracts.codec import TYPES, DecodeError, decode, encode

GOLDEN = resources.files("contracts").joinpath("golden")
EXAMPLES = sorted(item.name for item in GOLDEN.iterdir() if item.name.endswith(".json"))


def test_every_type_has_an_example() -> None:
    assert {f"latchkey.{name.removesuffix('.json')}" for name in EXAMPLES} == set(TYPES)


@pytest.mark.parametrize("name", EXAMPLES)
def test_example_is_read_and_written_unchanged(name: str) -> None:
    text = GOLDEN.joinpath(name).read_bytes()
    message = decode(text)
    assert type(message.data) is TYPES[f"latchkey.{name.removesuffix('.json')}"]
    assert json.loads(encode(message)) == json.loads(text)


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
