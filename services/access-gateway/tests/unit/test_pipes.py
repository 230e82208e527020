"""Pipes: full size or none, never one with bytes of somebody else, no more than Linux grants to a user."""

import contextlib
import os
import subprocess
import sys
from collections.abc import Generator

import pytest

from access_gateway.relay.pipes import SIZE, Pipe, Pipes


@pytest.fixture
def pipes() -> Generator[Pipes]:
    made = Pipes(most=3)
    yield made
    made.close()


def room(pipe: Pipe) -> int:
    """How many bytes go in."""
    written = 0
    with contextlib.suppress(BlockingIOError):
        while True:
            written += os.write(pipe.write, bytes(65536))
    return written


def test_a_pipe_holds_a_megabyte(pipes: Pipes) -> None:
    pipe = pipes.take()
    assert pipe is not None
    assert room(pipe) == SIZE
    pipes.give_back(pipe, empty=False)


def test_an_empty_pipe_is_used_again_and_one_with_bytes_is_closed(pipes: Pipes) -> None:
    first, second = pipes.take(), pipes.take()
    assert first is not None
    assert second is not None
    os.write(second.write, b"a tenant's secret")
    pipes.give_back(first, empty=True)
    pipes.give_back(second, empty=False)
    assert pipes.take() == first
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.read(second.read, 1)
    third = pipes.take()
    assert third is not None
    with pytest.raises(BlockingIOError):
        os.read(third.read, 1)
    pipes.give_back(first, empty=True)
    pipes.give_back(third, empty=True)


def test_there_are_no_more_than_allowed(pipes: Pipes) -> None:
    taken = [pipes.take() for _ in range(4)]
    assert taken[3] is None
    for pipe in taken[:3]:
        assert pipe is not None
        pipes.give_back(pipe, empty=True)
    assert pipes.take() is not None


_AS_NOBODY = """
import fcntl, os
from access_gateway.relay.pipes import SIZE, Pipes
os.setgroups([]); os.setgid(65534); os.setuid(65534)
others = []
while True:  # pipes of this user's other programs, until Linux grants no more
    others.append(os.pipe())
    assert len(others) < 200, "no limit for this user"
    try:
        fcntl.fcntl(others[-1][1], fcntl.F_SETPIPE_SZ, SIZE)
    except PermissionError:
        break
free = os.dup(0)
os.close(free)
assert Pipes().take() is None
assert os.dup(0) == free, "files are left open"
for read, write in others:
    os.close(read); os.close(write)
pipes = Pipes()
print(sum(pipes.take() is not None for _ in range(70)))
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody who has used up his pipes")
def test_a_user_who_gets_only_tiny_pipes_gets_none() -> None:
    done = subprocess.run(
        [sys.executable, "-c", _AS_NOBODY], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    assert 1 <= int(done.stdout) <= 64
