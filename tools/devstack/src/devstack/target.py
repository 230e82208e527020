"""A Latchkey that runs somewhere else, in containers for one: what the demo has to know of it."""

from dataclasses import dataclass
from typing import Protocol


class Whereabouts(Protocol):
    """Where a stack is: what `Status` says of the embedded one."""

    @property
    def addresses(self) -> dict[str, str]:
        """Addresses without a scheme, of those that can be reached."""
        ...

    def url(self, name: str) -> str:
        """Where ``name`` serves HTTP, without a slash at the end."""
        ...

    async def token(self, email: str) -> str:
        """A bearer token for a demo account; raises StackError when no account has that address."""
        ...


@dataclass(frozen=True, slots=True)
class Target:
    """A stack by the addresses that a person types; ``kafka`` is known to few."""

    portal: str
    mailbox: str
    issuer: str
    kafka: str | None = None

    @property
    def addresses(self) -> dict[str, str]:
        """Of these, the broker alone has no URL."""
        return {"kafka": self.kafka} if self.kafka else {}

    def url(self, name: str) -> str:
        """The address of ``portal``, ``mailbox`` or ``issuer``."""
        urls = {"portal": self.portal, "mailbox": self.mailbox, "issuer": self.issuer}
        return urls[name].rstrip("/")

    async def token(self, email: str) -> str:
        """A bearer token of the demo issuer there."""
        from devstack.issuer import fetch_token  # noqa: PLC0415 - its libraries would cost every verb a second

        return await fetch_token(self.issuer.rstrip("/"), email)
