"""What a verb says instead of an answer: one line, with what to do."""

from enum import IntEnum


class Exit(IntEnum):
    """Exit codes, for scripts."""

    OK = 0
    NOT_WELL = 1
    """It was found out, and is not as it should be; or the change was not made."""
    USAGE = 2
    """The arguments or settings cannot be used, or it could not be begun as things are."""
    UNREACHABLE = 3
    """The broker or the database does not answer."""


class OpsError(Exception):
    """Ends the verb; the message is for the person at the terminal."""

    def __init__(self, message: str, code: Exit = Exit.NOT_WELL) -> None:
        super().__init__(message)
        self.code = code
