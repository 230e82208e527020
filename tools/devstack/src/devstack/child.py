"""Becomes a server that cannot outlive its launcher. Run by path with ``python -I -S``: nothing but the
standard library is at hand, and nothing else is wanted, as it runs before every child.

Usage: ``child.py PARENT_PID DEATH_SIGNAL USER_NAMESPACE PROGRAM [ARGUMENT…]``

The kernel sends DEATH_SIGNAL when the launcher's thread ends, kill -9 included (prctl(2)). USER_NAMESPACE 1
shows the program the unprivileged user ``nobody`` where it really runs as root: PostgreSQL refuses root.
"""

import ctypes
import os
import signal
import sys
from pathlib import Path

_PR_SET_PDEATHSIG = 1
_CLONE_NEWUSER = 0x10000000
_NOBODY = 65534


def _call(result: int, what: str) -> None:
    if result != 0:
        sys.exit(f"{what} failed: {os.strerror(ctypes.get_errno())}")


def _enter_user_namespace(libc: ctypes.CDLL) -> None:
    uid, gid = os.geteuid(), os.getegid()
    _call(libc.unshare(_CLONE_NEWUSER), "making a user namespace (PostgreSQL does not run as root)")
    for name, line in (
        ("uid_map", f"{_NOBODY} {uid} 1"),
        ("setgroups", "deny"),
        ("gid_map", f"{_NOBODY} {gid} 1"),
    ):
        Path("/proc/self", name).write_text(line)


def main(arguments: list[str]) -> None:
    """Tie this process to its parent and become the program."""
    parent, death_signal, namespace, *command = arguments
    if sys.platform == "linux":
        libc = ctypes.CDLL(None, use_errno=True)
        if namespace == "1":
            _enter_user_namespace(libc)
        _call(libc.prctl(_PR_SET_PDEATHSIG, int(death_signal), 0, 0, 0), "asking to die with the launcher")
        if os.getppid() != int(parent):  # it died before the kernel was asked
            sys.exit("the launcher is gone")
    for ignored_by_python in (signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(ignored_by_python, signal.SIG_DFL)
    os.execvp(command[0], command)  # noqa: S606 - becoming another program is what this one is for


if __name__ == "__main__":
    main(sys.argv[1:])
