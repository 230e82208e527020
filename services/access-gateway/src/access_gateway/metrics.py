"""What the gateway counts. Label sets are closed; every one exists from the start, at zero."""

from enum import StrEnum

from prometheus_client import Counter, Gauge, Histogram

from access_gateway.policy import Refusal
from contracts.events import CutReason


class PortRefusal(StrEnum):
    """Why a client of an open port was turned away before or after the verdict; ``reason`` of its event."""

    WRONG_SOURCE = "WRONG_SOURCE"
    TOO_MANY_CONNECTIONS = "TOO_MANY_CONNECTIONS"
    TARGET_NOT_ALLOWED = "TARGET_NOT_ALLOWED"
    TARGET_UNREACHABLE = "TARGET_UNREACHABLE"


_FINE = (0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)

OPEN_PORTS = Gauge("gateway_open_ports", "Ports open for clients.")
OPEN_CONNECTIONS = Gauge("gateway_open_connections", "Connections relayed now.")
OPENED = Counter("gateway_connections_opened_total", "Connections opened.")
REFUSED = Counter("gateway_refused_total", "Connections and ports refused.", ["reason"])
CUT = Counter("gateway_cuts_total", "Connections cut.", ["reason"])
CUT_SECONDS = Histogram(
    "gateway_cut_seconds",
    "From reading a change to having cut what depended on it. High: the database answers slowly.",
    buckets=_FINE,
)
BYTES = Counter(
    "gateway_relayed_bytes_total", "Payload relayed, counted when a connection ends.", ["direction"]
)
CHECK_SECONDS = Histogram(
    "gateway_check_seconds", "One grant check. High: the database is slow.", buckets=_FINE
)
STALENESS = Gauge(
    "gateway_staleness_seconds", "Age of the stalest device partition; +Inf when one was never proved."
)
WATCH_FAILURES = Counter(
    "gateway_grant_watch_failures_total", "Times that following the grants broke off. Rising: no database."
)
AUDIT_BACKLOG = Gauge("gateway_audit_backlog", "Access events not yet taken by the broker.")
AUDIT_DROPPED = Counter(
    "gateway_audit_dropped_total", "Access events lost because the broker was away too long."
)

for _code in (*Refusal, *PortRefusal):
    REFUSED.labels(reason=_code.value)
for _reason in CutReason:
    CUT.labels(reason=_reason.value)
for _direction in ("to_device", "from_device"):
    BYTES.labels(direction=_direction)
