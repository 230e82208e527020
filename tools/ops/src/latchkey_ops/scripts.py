"""Console scripts of services, which do what only they may: their verbs, run from here.

They have the exit codes of `latchkey_ops.errors.Exit`, and with ``--json`` print an object a line, of which
those with a ``phase`` tell how far they are and the last is the answer.
"""

import asyncio
import os
import shutil
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from pydantic import TypeAdapter

from latchkey_ops.errors import Exit, OpsError

PROJECTOR: Final = "permission-projector"
SHARE_COMMAND: Final = "share-command"
_OBJECT: Final = TypeAdapter(dict[str, Any])
_MOST_LINE: Final = 64 * 1024 * 1024
"""A comparison's answer is one line."""

_NOTHING_ELSE: Final[Mapping[str, str]] = {}

OnProgress = Callable[[Mapping[str, Any]], None]


def _silent(_told: Mapping[str, Any]) -> None: ...


async def ask(
    *arguments: str,
    script: str = PROJECTOR,
    environment: Mapping[str, str] = _NOTHING_ELSE,
    progress: OnProgress = _silent,
) -> tuple[int, dict[str, Any]]:
    """Run a verb of a script, with ``environment`` over our own; its exit code and its answer.

    When this task is cancelled, the verb is told to stop, and waited for while it puts things in order.

    Raises:
        OpsError: there was no answer; with the verb's own words and exit code.
    """
    child = await asyncio.create_subprocess_exec(
        _path(script),
        *arguments,
        "--json",
        env={**os.environ, **environment},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        start_new_session=True,  # the terminal's signal is ours to pass on, once
        limit=_MOST_LINE,
    )
    assert child.stdout is not None
    assert child.stderr is not None
    said = asyncio.create_task(child.stderr.read())
    answer: dict[str, Any] | None = None
    try:
        async for line in child.stdout:
            told = _read(line, f"{script} {arguments[0]}")
            if "phase" in told:
                progress(told)
            else:
                answer = told
        code = await child.wait()
    except BaseException:
        if child.returncode is None:
            child.terminate()
        await child.communicate()
        raise
    words = (await said).decode("utf-8", "replace").strip().splitlines()
    if answer is None:
        raise OpsError(words[-1] if words else _without_words(f"{script} {arguments[0]}"), _exit(code))
    return code, answer


def _path(script: str) -> str:
    beside = Path(sys.executable).with_name(script)
    found = str(beside) if beside.exists() else shutil.which(script)
    if found is None:
        raise OpsError(
            f"{script} is not installed here. Run this where it is, or install it beside latchkey-ops.",
            Exit.USAGE,
        )
    return found


def _read(line: bytes, verb: str) -> dict[str, Any]:
    try:
        return _OBJECT.validate_json(line)
    except ValueError:
        raise OpsError(f"{verb} did not answer in JSON objects: is it of this release?") from None


def _exit(code: int) -> Exit:
    return Exit(code) if code in {Exit.USAGE, Exit.UNREACHABLE} else Exit.NOT_WELL


def _without_words(verb: str) -> str:
    return f"{verb} failed and did not say why. Run it by itself to see more."
