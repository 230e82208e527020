"""The console script as an operator uses it."""

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from servicekit import pg

if TYPE_CHECKING:
    from conftest import World

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]  # the first one also starts the servers


def notifier(world: "World", verb: str, **settings: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "notifier", verb],
        env=world.env(**settings),
        capture_output=True,
        text=True,
        check=False,
    )


async def test_check_config_shows_what_is_in_force_and_no_secret(world: "World") -> None:
    done = notifier(world, "check-config", smtp_username="latchkey", smtp_password="hidden-word")
    assert done.returncode == 0
    assert "LATCHKEY_SMTP_TLS=none" in done.stdout
    assert "hidden-word" not in done.stdout
    assert world.env()["LATCHKEY_LINK_SECRET"] not in done.stdout


async def test_unsafe_settings_stop_the_start_with_2_and_a_reason(world: "World") -> None:
    for verb in ("check-config", "serve"):
        done = notifier(world, verb, smtp_host="mail.example.com")
        assert done.returncode == 2
        assert "SMTP_TLS" in done.stderr
        assert "Traceback" not in done.stderr


async def test_migrate_may_run_again_at_any_time(world: "World") -> None:
    assert notifier(world, "migrate").returncode == 0
    assert await pg.migrate(world.database.dsn("notifier"), "notifier") == []
