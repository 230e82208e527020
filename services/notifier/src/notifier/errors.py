"""What can go wrong, each with the stable code of docs/errors.md.

NotifierError
├── UnusableRecordError    a record that is set aside as a dead letter
└── HandoverError
    ├── DeferredError      the message was not taken for now: tried again
    └── RefusedError       the message will never be taken: not tried again
"""


class NotifierError(Exception):
    """The notifier could not do it."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code, self.message = code, message


class UnusableRecordError(NotifierError):
    """A record that is well-formed and yet cannot be applied. The message repeats no value of it."""


class HandoverError(NotifierError):
    """The server did not take the message. ``reply`` is its reply code, when it gave one."""

    def __init__(self, code: str, message: str, reply: int | None = None) -> None:
        super().__init__(code, message)
        self.reply = reply


class DeferredError(HandoverError):
    """Not for now: it is tried again, not before ``retry_after`` seconds if the server said so."""

    def __init__(
        self, code: str, message: str, reply: int | None = None, *, retry_after: float | None = None
    ) -> None:
        super().__init__(code, message, reply)
        self.retry_after = retry_after


class RefusedError(HandoverError):
    """Never. ``gone``: nothing will ever be taken there, and nothing is sent there again; else it is this
    message that is refused."""

    def __init__(self, code: str, message: str, reply: int | None = None, *, gone: bool = False) -> None:
        super().__init__(code, message, reply)
        self.gone = gone
