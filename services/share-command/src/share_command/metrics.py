"""What share-command measures; the help says what a high value means."""

from typing import Final

from prometheus_client import Counter, Gauge

COMMANDS: Final = Counter(
    "share_commands_total",
    "Commands answered. Many refusals of one code: a client that does not understand us, or probing.",
    ["command", "outcome"],
)
RETRIES: Final = Counter(
    "share_command_retries_total",
    "Attempts ended by the database and begun again. Many: overload, contention, or a database that is away.",
)
APART: Final = Counter(
    "share_command_shared_transactions_undone_total",
    "Transactions of several commands that were undone and run one by one. Many: refusals, or a device named "
    "in several ways at once.",
    ["error"],
)
EXPIRED: Final = Counter(
    "shares_expired_total",
    "Shares and invitations that time ended. Many at once: a batch that ended together.",
)
DEAD_LETTERS: Final = Counter(
    "share_command_dead_letters_total",
    "Messages put aside as unreadable, each a message that somebody thinks was heard.",
    ["code"],
)
OUTBOX_OLDEST: Final = Gauge(
    "outbox_oldest_row_age_seconds",
    "Age of the oldest message not yet acknowledged. High: broker or relay is stuck, and access goes stale.",
)
OUTBOX_HELD: Final = Gauge(
    "outbox_held_keys",
    "Keys whose messages are held behind one too large for the broker. Not 0: mend or remove that row.",
)
OUTBOX_SENT: Final = Counter("outbox_rows_sent_total", "Messages acknowledged by the broker.")
RELAY_ACTIVE: Final = Gauge("outbox_relay_active", "1: this process sends; 0: it stands by.")
RELAY_RESTARTS: Final = Counter(
    "outbox_relay_restarts_total",
    "Times the relay began again at the lowest id. Many: broker or database unsteady.",
)
WATERMARKS: Final = Counter(
    "outbox_watermarks_total", "Watermarks published. Not one a second: readers see data as stale."
)
