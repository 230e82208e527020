"""What the projector counts. A process serves them at ``/metrics``."""

from typing import Final

from prometheus_client import Counter, Gauge

_OUTCOMES: Final = ("applied", "duplicate", "quarantined", "ignored")

SHARE_EVENTS = Counter(
    "projector_share_events_total",
    "Records of share.events by outcome; `ignored` ones came for a device in quarantine.",
    ["outcome"],
)
for _outcome in _OUTCOMES:
    SHARE_EVENTS.labels(_outcome)

DEAD_LETTERS = Counter(
    "projector_dead_letters_total", "Records that could not be read and were put aside.", ["code"]
)
QUARANTINED = Gauge(
    "projector_quarantined_devices", "Devices whose shares give no access; anything above 0 needs a person."
)
FRESHNESS_AGE = Gauge(
    "projector_freshness_age_seconds",
    "Age of the stalest device partition; above the gateways' max_staleness they refuse. +Inf: never proved.",
)
