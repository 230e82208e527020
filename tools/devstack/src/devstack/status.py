"""What a running stack says of itself: written by `up`, read by every other verb."""

from pathlib import Path
from typing import Literal

from pydantic import BaseModel

State = Literal["starting", "ready", "waiting", "stopped"]


class ProcessStatus(BaseModel):
    """One process. ``waiting``: it died and will be started again after a pause."""

    name: str
    pid: int | None
    state: State
    restarts: int = 0
    address: str | None = None
    log: Path


class Moved(BaseModel):
    """Why something is not on its ``preferred`` port: it is ``taken``, or last time's is kept."""

    preferred: int
    taken: bool


class Status(BaseModel):
    """A stack: its launcher, its addresses and its processes. ``ready`` once everything has answered.

    ``moved`` names what listens on another port than its preferred one.
    """

    pid: int
    state: Path
    ready: bool
    addresses: dict[str, str]
    moved: dict[str, Moved] = {}
    processes: list[ProcessStatus]

    def url(self, name: str) -> str:
        """Where ``name`` serves HTTP, without a slash at the end."""
        return f"http://{self.addresses[name]}"

    async def token(self, email: str) -> str:
        """A bearer token for a demo account; raises StackError when no account has that address."""
        from devstack.issuer import fetch_token  # noqa: PLC0415 - its libraries would cost `status` a second

        return await fetch_token(self.url("issuer"), email)
