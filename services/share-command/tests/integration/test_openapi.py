"""The HTTP API does what its OpenAPI document says, whatever is sent to a real process."""

import asyncio
import json
import subprocess
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any, cast

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis import checks as general
from schemathesis.specs.openapi import checks

from contracts.commands import RequestShare
from share_command import documents

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

Start = Callable[[str], tuple[subprocess.Popen[bytes], str]]
EXAMPLES = 25
"""For each operation, of bodies that fit the document, and again of bodies that do not."""

anything: Any = general  # the types of both leave parameters open
published: Any = checks
CHECKS: list[Any] = [
    anything.not_a_server_error,
    published.status_code_conformance,
    published.content_type_conformance,
    published.response_schema_conformance,
]


def there(share_id: str) -> dict[str, st.SearchStrategy[Any]]:
    """What exists, to be put in place of what was made up: else all is refused at the door."""
    devices = st.lists(st.sampled_from(["d0", "d1", "d1-ssh", "foreign", "gone"]), min_size=1, max_size=3)
    people = st.lists(
        st.sampled_from(["ann@x.test", "bob@x.test", "+4915112345678", "no"]), min_size=1, max_size=3
    )
    return {
        "device_ids": devices,
        "device_id": st.sampled_from(["d0", "d0", "d1"]),
        "recipients": people,
        "recipient": st.sampled_from(["ann@x.test", "contact:x", "tel:1"]),
        "share_id": st.just(share_id),
        "expected_version": st.integers(1, 4),
    }


def play(address: str, token: Callable[[], str], share_id: str) -> Counter[tuple[str, int]]:
    """Every operation, many times; returns how often each was answered how."""
    schema = schemathesis.openapi.from_dict(json.loads(documents.openapi()))
    seen: Counter[tuple[str, int]] = Counter()
    known = there(share_id)
    for result in cast("Any", schema).get_all_operations():
        operation: Any = result.ok()
        for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):

            @settings(
                max_examples=EXAMPLES, derandomize=True, phases=[Phase.generate], deadline=None,
                database=None,
                suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
            )  # fmt: skip
            @given(case=operation.as_strategy(generation_mode=mode), data=st.data())
            def run(case: Any, data: st.DataObject) -> None:
                body = case.body
                if isinstance(body, dict) and data.draw(st.booleans()):
                    fields = cast("dict[str, Any]", body)
                    case.body = {
                        name: data.draw(known[name]) if name in known else value
                        for name, value in fields.items()
                    }
                headers = {"Authorization": f"Bearer {token()}"}
                response = case.call(base_url=address, headers=headers)
                seen[case.operation.label, response.status_code] += 1
                case.validate_response(response, checks=CHECKS)

            run()
    return seen


async def test_whatever_is_sent_is_answered_as_published(
    world: Any, start: Start, ready: Callable[[str], Awaitable[None]], environment: dict[str, str],
    internal_tokens: Any,
) -> None:  # fmt: skip
    environment["LATCHKEY_COMMANDS_PER_MINUTE"] = "1000000"
    _, address = start("serve")
    await ready(address)
    await world.handle(RequestShare, "c1", "owner", device_ids=("d0",), recipients=("ann@x.test",))
    share_id = str(await world.pool.fetchval("select share_id from share"))
    seen = await asyncio.to_thread(
        play, address, lambda: internal_tokens.token("share-command", "owner"), share_id
    )
    operations = {operation for operation, _ in seen}
    assert len(operations) == 29
    accepted = {operation for operation, status in seen if status in (200, 204)}
    assert len(accepted) > 15, seen
    assert not [status for _, status in seen if status >= 500]
