"""The published interface documents are those of the code."""

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from notifier import app as notifier
from permission_projector import app as permission_projector
from portal import schema as portal_schema
from share_command import documents

ROOT = Path(__file__).parents[2]
PUBLISHED: list[tuple[str, str, Callable[[], str]]] = [
    ("share-command", "openapi", documents.openapi),
    ("share-command", "asyncapi", documents.asyncapi),
    ("permission-projector", "openapi", permission_projector.openapi),
    ("notifier", "openapi", notifier.openapi),
]


@pytest.mark.parametrize(("service", "kind", "make"), PUBLISHED)
def test_the_published_document_is_current(service: str, kind: str, make: Callable[[], str]) -> None:
    path = f"docs/{kind}/{service}.json"
    text = (ROOT / path).read_text()
    assert text == make(), f"Make it again: .venv/bin/{service} {kind} > {path}"
    assert text == json.dumps(json.loads(text), indent=1, sort_keys=True, ensure_ascii=False) + "\n"


def _references(value: object) -> Iterator[str]:
    if isinstance(value, dict):
        for name, item in cast("dict[str, object]", value).items():
            if name == "$ref":
                yield str(item)
            else:
                yield from _references(item)
    elif isinstance(value, list):
        for item in cast("list[object]", value):
            yield from _references(item)


@pytest.mark.parametrize(("service", "kind", "make"), PUBLISHED)
def test_what_a_document_refers_to_is_in_it(service: str, kind: str, make: Callable[[], str]) -> None:
    document: dict[str, Any] = json.loads(make())
    references = set(_references(document))
    assert len(references) > 15, f"the search finds too little in {kind} of {service}"
    for reference in references:
        here: Any = document
        for part in reference.removeprefix("#/").split("/"):
            here = here[part.replace("~1", "/").replace("~0", "~")]
    for names in document["components"].values():
        for name in names:
            assert re.fullmatch(r"[a-zA-Z0-9.:_-]+", name), name


def test_the_published_graphql_schema_is_current() -> None:
    text = (ROOT / "docs/graphql/portal.graphql").read_text()
    assert text == portal_schema.sdl(), "Make it again: .venv/bin/portal sdl > docs/graphql/portal.graphql"
