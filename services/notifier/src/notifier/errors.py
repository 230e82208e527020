"""What can go wrong, each with the stable code of docs/errors.md.

NotifierError
├── UnusableRecordError    a record that is set aside as a dead letter
└── HandoverError
    ├── DeferredError      the mail was not taken for now: tried again
    └── RefusedError       the mail will never be taken: not tried again
"""


class NotifierError(Exception):
    """The notifier could not do it."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code, self.message = code, message


class UnusableRecordError(NotifierError):
    """A record that is well-formed and yet cannot be applied. The message repeats no value of it."""


class HandoverError(NotifierError):
    """The server did not take the mail. ``reply`` is its reply code, when it gave one."""

    def __init__(self, code: str, message: str, reply: int | None = None) -> None:
        super().__init__(code, message)
        self.reply = reply


class DeferredError(HandoverError):
    """Not for now: it is tried again."""


class RefusedError(HandoverError):
    """Never: the address is wrong, or the server refuses the mail for good. It is not tried again."""
