"""The launcher at the root, as a person meets it before there is an environment."""

import ast
import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[4]
# Runs a program file in this process' place with a pretended version.
PRETEND = "import sys, runpy; sys.version_info = {}; runpy.run_path({!r}, run_name='__main__')"


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout with the launcher and what it reads, but no environment."""
    for name in ("latchkey", "bootstrap.lock", "requirements.lock"):
        shutil.copy(PROJECT / name, tmp_path)
    for member in PROJECT.glob("*/*/pyproject.toml"):
        copy = tmp_path / member.relative_to(PROJECT)
        copy.parent.mkdir(parents=True)
        shutil.copy(member, copy)
    return tmp_path


def call(*command: object, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(part) for part in command],
        env={"PATH": "/usr/bin:/bin", **env},
        capture_output=True,
        text=True,
        check=False,
    )


def environment(checkout: Path) -> None:
    """An environment that looks whole; its python prints what it is asked to run."""
    python = checkout / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text('#!/bin/sh\necho "asked: $*"\nexit 7\n')
    python.chmod(0o755)
    digest = hashlib.sha256(repr((str(checkout), sys.version_info[:3])).encode())
    members = [
        path for group in ("libs", "services", "tools") for path in sorted(checkout.glob(f"{group}/*"))
    ]
    locks = [checkout / "bootstrap.lock", checkout / "requirements.lock"]
    for path in [*locks, *(member / "pyproject.toml" for member in members)]:
        digest.update(path.read_bytes())
    (checkout / ".venv" / "latchkey-stamp").write_text(digest.hexdigest())


def test_an_old_python_is_told_in_one_line(checkout: Path) -> None:
    answer = call(sys.executable, "-c", PRETEND.format((3, 8, 0), str(checkout / "latchkey")))
    assert answer.returncode == 1
    assert answer.stderr == (
        "latchkey: Python 3.8 is too old. Install 3.11 or newer, then run: python3.11 ./latchkey\n"
    )
    assert not (checkout / ".venv").exists()


def test_an_old_python_can_read_the_launcher() -> None:
    ast.parse((PROJECT / "latchkey").read_text(), feature_version=(3, 6))


def test_a_whole_environment_is_handed_the_arguments_and_the_exit_code(checkout: Path) -> None:
    environment(checkout)
    answer = call(sys.executable, checkout / "latchkey", "status", "--json")
    assert (answer.stdout, answer.stderr) == ("asked: -m devstack status --json\n", "")
    assert answer.returncode == 7


@pytest.mark.parametrize("changed", ["requirements.lock", "services/portal/pyproject.toml"])
def test_a_change_of_a_lock_or_of_a_members_metadata_makes_the_environment_again(
    checkout: Path, changed: str
) -> None:
    environment(checkout)
    with (checkout / changed).open("a") as file:
        file.write("# changed\n")
    answer = call(sys.executable, checkout / "latchkey", "status", **without(checkout, "ensurepip", "pip"))
    assert answer.returncode == 1
    assert "This Python has no venv and pip" in answer.stderr  # it went to make it
    assert not (checkout / ".venv" / "latchkey-stamp").exists()


def without(checkout: Path, *modules: str) -> dict[str, str]:
    """Surroundings in which these modules cannot be imported."""
    for name in modules:
        (checkout / "broken" / name).mkdir(parents=True)
        (checkout / "broken" / name / "__init__.py").write_text("raise ImportError('not installed')")
    return {"PYTHONPATH": str(checkout / "broken")}


def offline(checkout: Path) -> dict[str, str]:
    """Surroundings in which nothing can be fetched: nobody listens where the proxy should be."""
    return {
        **without(checkout, "ensurepip"),  # making an environment without pip is quick
        "HTTPS_PROXY": "http://127.0.0.1:9",
        "HTTP_PROXY": "http://127.0.0.1:9",
        "PIP_RETRIES": "0",
        "PIP_NO_CACHE_DIR": "1",
        "HOME": str(checkout),
    }


@pytest.mark.slow
def test_without_a_network_the_last_line_says_so_and_a_later_start_begins_again(checkout: Path) -> None:
    surroundings = offline(checkout)
    for _ in range(2):
        answer = call(sys.executable, checkout / "latchkey", "up", **surroundings)
        assert answer.returncode == 1
        assert answer.stderr.splitlines()[-1].startswith(
            "latchkey: Packages cannot be fetched. Check the network and proxy, then try again."
        )


def test_a_python_without_venv_and_pip_is_told_what_to_install(checkout: Path) -> None:
    answer = call(sys.executable, checkout / "latchkey", "up", **without(checkout, "ensurepip", "pip"))
    assert answer.returncode == 1
    assert answer.stderr == (
        "latchkey: This Python has no venv and pip. "
        "Debian, Ubuntu: apt install python3-venv. Then try again.\n"
    )


def test_an_incomplete_checkout_is_told(checkout: Path) -> None:
    (checkout / "requirements.lock").unlink()
    answer = call(sys.executable, checkout / "latchkey", "up")
    assert answer.returncode == 1
    assert answer.stderr.count("\n") == 1
    assert "requirements.lock cannot be read" in answer.stderr


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_checkout_that_cannot_be_written_is_told(checkout: Path) -> None:
    checkout.chmod(0o500)
    answer = call(sys.executable, checkout / "latchkey", "up")
    checkout.chmod(0o700)
    assert answer.returncode == 1
    assert "Permission denied" in answer.stderr


def test_the_locks_name_no_address_and_no_path() -> None:
    for name in ("bootstrap.lock", "requirements.lock"):
        text = (PROJECT / name).read_text()
        assert "//" not in text
        assert "--index" not in text
        assert "file:" not in text
        assert "latchkey" not in text
