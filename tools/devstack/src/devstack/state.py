"""The one directory in which a stack keeps everything, private to its user."""

import contextlib
import fcntl
import itertools
import json
import os
import secrets
import shutil
import tempfile
import time
from collections.abc import Generator
from pathlib import Path
from typing import TextIO

from pydantic import BaseModel, Field, ValidationError

from devstack import keys, postgres
from devstack.process import StackError, port_is_free, why_not_free
from devstack.process import free_port as any_port
from devstack.status import Moved, Status

_LOCK_SECONDS = 0.5


class Secrets(BaseModel):
    """Generated once for a state directory."""

    stack_id: str
    postgres: dict[str, str]
    internal_key: str
    internal_keys: str
    link_secret: str
    oidc_client_secret: str
    registry_token: str
    access_key_secret: str
    push_key: str = Field(default_factory=lambda: keys.new_internal_key()[0])
    """Absent in directories of earlier versions: then one is made, and kept."""


class StateDirectory:
    """Paths, lock and files of one stack."""

    def __init__(self, path: Path) -> None:
        self.path = path.resolve()
        self.pgdata = self.path / "pgdata"
        self.kafka = self.path / "kafka"
        self.logs = self.path / "logs"
        self.tls = self.path / "tls"
        self._lock = self.path / "lock"
        self._secrets = self.path / "secrets.json"
        self._ports = self.path / "ports.json"
        self._status = self.path / "status.json"
        self._reserved: dict[int, TextIO] = {}

    def exists(self) -> bool:
        """Whether the directory is there.

        Raises:
            StackError: this user may not look into it.
        """
        try:
            with os.scandir(self.path):
                return True
        except (FileNotFoundError, NotADirectoryError):
            return False
        except OSError as error:
            raise StackError(
                f"{self.path} cannot be looked into by this user: {error.strerror}. Name another by --state."
            ) from error

    def make(self) -> None:
        """Make the directory, if needed.

        Raises:
            StackError: it cannot be made, or something else lies in it.
        """
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            if not self._lock.exists() and any(self.path.iterdir()):
                raise StackError(f"{self.path} holds other files. Name an empty or new directory by --state.")
            self.path.chmod(0o700)
            self._lock.touch()
        except OSError as error:
            raise StackError(
                f"{self.path} cannot hold the stack's state: {error.strerror}. Name another by --state."
            ) from error

    def clear(self) -> None:
        """Forget everything but the lock; only what holds the lock may do this."""
        for entry in self.path.iterdir():
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry)
            elif entry != self._lock:
                entry.unlink()

    @contextlib.contextmanager
    def locked(self) -> Generator[bool]:
        """Hold the directory as its one running stack while the block runs; False when another holds it."""
        with self._lock.open("r+") as file:
            held = _try_lock(file.fileno(), _LOCK_SECONDS)
            if held:
                file.truncate()
                file.write(str(os.getpid()))
                file.flush()
            try:
                yield held
            finally:
                for claim in self._reserved.values():
                    claim.close()
                self._reserved.clear()

    def holder(self) -> int | None:
        """Process id of the stack that runs on this directory."""
        with contextlib.suppress(FileNotFoundError), self._lock.open("r") as file:
            # Shared: of two who look at once, neither must take the other for the stack of the id in it.
            if not _try_lock(file.fileno(), 0, fcntl.LOCK_SH):
                return int(file.read() or 0) or None
        return None

    def load_status(self) -> Status | None:
        """What the stack that ran here last said of itself."""
        try:
            return Status.model_validate_json(self._status.read_text())
        except (FileNotFoundError, ValidationError):
            return None

    def save_status(self, status: Status) -> None:
        """Replace the status; a reader sees the old or the new one."""
        _write(self._status, status.model_dump_json(indent=2))

    def drop_status(self) -> None:
        """No stack runs any more."""
        self._status.unlink(missing_ok=True)

    def stack_id(self) -> str | None:
        """What marks this stack's processes; None before its first start."""
        with contextlib.suppress(FileNotFoundError, ValidationError):
            return Secrets.model_validate_json(self._secrets.read_text()).stack_id
        return None

    def load_secrets(self) -> Secrets:
        """The secrets of this directory; generated when there are none."""
        try:
            found = Secrets.model_validate_json(self._secrets.read_text())
            if found.model_fields_set < Secrets.model_fields.keys():
                _write(self._secrets, found.model_dump_json(indent=2))
            return found
        except FileNotFoundError:
            pass
        except ValidationError:
            raise StackError(f"{self._secrets} cannot be read. Begin anew with `up --fresh`.") from None
        private, public = keys.new_internal_key()
        made = Secrets(
            stack_id=secrets.token_hex(8),
            postgres=postgres.new_passwords(),
            internal_key=private,
            internal_keys=public,
            link_secret=secrets.token_urlsafe(32),
            oidc_client_secret=secrets.token_urlsafe(32),
            registry_token=secrets.token_urlsafe(32),
            access_key_secret=secrets.token_urlsafe(32),
        )
        _write(self._secrets, made.model_dump_json(indent=2))
        return made

    def choose_ports(
        self, preferred: dict[str, int], fixed: dict[str, int]
    ) -> tuple[dict[str, int], dict[str, Moved]]:
        """A port for each name: the fixed one, else last time's, else the preferred, else any that is free.

        And why those are not the preferred ones that are not, unless fixed. A preferred port of 0 means any.

        Raises:
            StackError: a fixed port is taken, or this user may not have it.
        """
        for name, port in fixed.items():
            why = why_not_free(port)
            if why is not None:
                raise StackError(f"Port {port} (for the {name}) {why}. Choose another port.")
        last: dict[str, int] = json.loads(self._ports.read_text()) if self._ports.exists() else {}
        chosen, moved = dict(fixed), dict[str, Moved]()
        for name, default in preferred.items():
            if name in chosen:
                continue
            candidates = [last.get(name, default), default]
            unused = [port for port in candidates if port and port not in chosen.values()]
            free = (port for port in unused if port_is_free(port) and self._reserve(port))
            others = (
                port for port in iter(any_port, 0) if port not in chosen.values() and self._reserve(port)
            )
            port = next(itertools.chain(free, others))
            if default not in {0, port}:
                # Not tried when last time's was free: then it is as last time, unless it is taken still.
                taken = port != last.get(name) or default in chosen.values() or not port_is_free(default)
                moved[name] = Moved(preferred=default, taken=taken)
            chosen[name] = port
        _write(self._ports, json.dumps(chosen, indent=2))
        return chosen, moved

    def _reserve(self, port: int) -> bool:
        """Claim a port among this user's stacks for as long as the state directory is `locked`.

        A stack binds its ports seconds after it chose them; two that start together would choose the same.
        """
        if port in self._reserved:
            return True
        try:
            place = Path(tempfile.gettempdir()) / f"latchkey-ports-{os.getuid()}"
            place.mkdir(mode=0o700, exist_ok=True)
            if place.lstat().st_uid != os.getuid():  # whose links could lead anywhere
                return True
            claim = (place / str(port)).open("a")
        except OSError:  # none can be made there: then without reservations, as with another user's
            return True
        if not _try_lock(claim.fileno(), 0):
            claim.close()
            return False
        self._reserved[port] = claim
        return True


def _try_lock(file: int, seconds: float, kind: int = fcntl.LOCK_EX) -> bool:
    deadline = time.monotonic() + seconds
    while True:
        try:
            fcntl.flock(file, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                return False
            time.sleep(0.02)
        else:
            return True


def _write(path: Path, text: str) -> None:
    new = path.with_name(path.name + ".new")
    try:
        with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            file.write(text)
        new.replace(path)
    except OSError as error:
        raise StackError(
            f"{path} cannot be written: {error.strerror}. Make room there, or name another by --state."
        ) from error
