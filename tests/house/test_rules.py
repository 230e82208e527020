"""House rules that no linter knows. Each says how to mend what it finds."""

import re
import subprocess
import tomllib
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest

from servicekit.settings import ServiceSettings

ROOT = Path(__file__).parents[2]
SERVICES = ["share_command", "permission_projector", "notifier", "access_gateway", "portal"]


def tracked(*patterns: str) -> list[Path]:
    """Files that git knows, or would take."""
    listing = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", *patterns],
        cwd=ROOT, capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    return [ROOT / line for line in listing.splitlines() if (ROOT / line).is_file()]


def sources() -> list[Path]:
    """The product's own modules, without tests."""
    found = [path for path in tracked("libs/*.py", "services/*.py") if "/tests/" not in path.as_posix()]
    assert len(found) > 40, "the search looks in the wrong place"
    return found


def lines_with(pattern: str, paths: list[Path]) -> Iterator[str]:
    """``file:line: text`` of each match."""
    expression = re.compile(pattern)
    for path in paths:
        for number, line in enumerate(path.read_text().splitlines(), 1):
            if expression.search(line):
                yield f"{path.relative_to(ROOT)}:{number}: {line.strip()}"


def test_servicekit_knows_no_share() -> None:
    paths = [path for path in sources() if "libs/servicekit" in path.as_posix()]
    words = r"(?i)\b(invitation|grant(ed|s)?|permission|owner_account|recipient|camera|device_id)\b"
    found = [hit for hit in lines_with(words, paths) if "``device_id``" not in hit]
    assert not found, "Move what knows the domain into contracts or a service:\n" + "\n".join(found)


def test_sql_stands_in_sql_files() -> None:
    statement = (
        r"""(?i)["'](select\s.+\sfrom|insert\s+into|update\s+\w+\s+set|delete\s+from|create\s+table)\b"""
    )
    allowed = "libs/servicekit/src/servicekit/pg.py"  # the migration runner keeps its own little table
    found = [hit for hit in lines_with(statement, sources()) if not hit.startswith(allowed)]
    assert not found, "Move the statement into sql/queries.sql:\n" + "\n".join(found)


def test_no_service_names_another_ones_schema() -> None:
    for service in SERVICES:
        folder = service.replace("_", "-")
        others = [name for name in SERVICES if name != service]
        if service == "access_gateway":
            others.append(r"permissions(_\d+)?")  # its way in is permissions_api
        pattern = rf"\b({'|'.join(others)})\.\w+"
        found = list(lines_with(pattern, tracked(f"services/{folder}/src/*.sql")))
        assert not found, "Ask the other service over HTTP or permissions_api:\n" + "\n".join(found)


@pytest.mark.parametrize("service", SERVICES)
def test_every_setting_is_described_and_documented(service: str) -> None:
    documented = (ROOT / "docs/architecture.md").read_text()
    module = vars(import_module(f"{service}.settings"))
    kinds = [kind for kind in module.values() if isinstance(kind, type) and issubclass(kind, ServiceSettings)]
    kinds.remove(ServiceSettings)
    assert kinds, f"{service} has no settings"
    for kind in kinds:
        for name, field in kind.model_fields.items():
            assert field.description, f"{service}: describe the setting {name}"
            assert f"`{name.upper()}`" in documented, (
                f"{service}: put {name.upper()} into docs/architecture.md"
            )


def test_every_error_code_is_documented() -> None:
    table = set(re.findall(r"^\| `([A-Z_]+)`", (ROOT / "docs/errors.md").read_text(), re.MULTILINE))
    used: set[str] = set()
    for path in sources():
        text = path.read_text()
        used |= set(re.findall(r"""(?:ApiError\(\s*|\bcode\b[^=\n]*=\s*)["']([A-Z][A-Z_]+)["']""", text))
    used -= {"ALLOWED"}  # the code of a decision that is no refusal
    used |= {"MALFORMED", "UNKNOWN_TYPE", "INVALID_DATA", "UNEXPECTED_TYPE"}
    assert len(used) > 15, "the search finds too little to be true"
    assert used <= table, f"Put these codes into docs/errors.md: {sorted(used - table)}"


def test_the_lock_names_no_address_and_no_path() -> None:
    for name in ("requirements.lock", "bootstrap.lock"):
        found = list(lines_with(r"://|file:|^-|@ ", [ROOT / name]))
        assert not found, f"{name} must hold versions and hashes only:\n" + "\n".join(found)
        assert "--hash=sha256:" in (ROOT / name).read_text()


def test_members_pin_what_they_name() -> None:
    for path in tracked("libs/*/pyproject.toml", "services/*/pyproject.toml", "tools/*/pyproject.toml"):
        for requirement in tomllib.loads(path.read_text())["project"]["dependencies"]:
            assert "==" in requirement or requirement.startswith("latchkey-"), f"{path}: pin {requirement}"


def test_links_in_the_documents_lead_somewhere() -> None:
    for path in tracked("*.md"):
        for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", path.read_text()):
            if "://" not in target:
                assert (path.parent / target).exists(), f"{path.relative_to(ROOT)} links to {target}"
