"""Ends what a killed launcher left. Run by path with ``python -I -S``; the standard library only.

Usage: ``guard.py STACK_ID``; its standard input is a pipe that nobody but the launcher holds open. When it
closes, every process with ``LATCHKEY_STACK=STACK_ID`` in its environment is killed: children of children
too, which the kernel's parent-death signal does not reach.
"""

import os
import signal
import sys
from pathlib import Path


def members(stack_id: str) -> list[int]:
    """The processes of a stack, by their environment."""
    mark = f"LATCHKEY_STACK={stack_id}".encode()
    found: list[int] = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            environment = (entry / "environ").read_bytes()
        except OSError:  # ended meanwhile, or another user's
            continue
        if mark in environment.split(b"\0"):
            found.append(int(entry.name))
    return found


def main(stack_id: str) -> None:
    """Wait for the launcher's end, then kill the stack's processes until there are none."""
    for sign in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(sign, signal.SIG_IGN)
    sys.stdin.buffer.read()
    while left := [pid for pid in members(stack_id) if pid != os.getpid()]:
        for pid in left:
            try:
                os.kill(pid, signal.SIGKILL)
            except OSError:
                continue


if __name__ == "__main__":
    main(sys.argv[1])
