"""Every code that the portal can answer stands in the table of codes."""

import re
from pathlib import Path

import portal.errors
from servicekit.http import ApiError

TABLE = Path(__file__).parents[4] / "docs" / "errors.md"
OF_DOCUMENTS = {
    "ADDED_AND_REMOVED",
    "BAD_USER_INPUT",
    "GRAPHQL_PARSE_FAILED",
    "GRAPHQL_VALIDATION_FAILED",
    "INTERNAL",
    "LIMIT_REACHED",
    "TOO_LARGE",
    "UNAUTHENTICATED",
}


def test_every_code_is_documented() -> None:
    kinds = [kind for kind in vars(portal.errors).values() if isinstance(kind, type)]
    codes = {
        str(kind.__dict__["default_code"])
        for kind in kinds
        if issubclass(kind, ApiError) and "default_code" in kind.__dict__
    }
    assert codes
    rows = [line for line in TABLE.read_text().splitlines() if "portal" in line]
    documented = {code for row in rows for code in re.findall(r"`([A-Z_]+)`", row.split("|")[1])}
    assert codes | OF_DOCUMENTS <= documented


def test_every_code_in_the_source_is_a_known_one() -> None:
    source = "".join(path.read_text() for path in Path(portal.errors.__file__).parent.glob("*.py"))
    written = set(re.findall(r'ApiError\(\s*"([A-Z_]+)"', source)) | set(
        re.findall(r'"code": "([A-Z_]+)"', source)
    )
    assert written <= OF_DOCUMENTS | {"INVALID_REQUEST"}
