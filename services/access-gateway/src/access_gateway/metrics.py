"""What the gateway counts. Label sets are closed; every one exists from the start, at zero."""

from prometheus_client import Counter, Gauge, Histogram

from access_gateway.policy import Refusal
from contracts.events import CutReason

_FINE = (0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)

OPEN_PORTS = Gauge("gateway_open_ports", "Ports open for clients.")
OPEN_CONNECTIONS = Gauge("gateway_open_connections", "Connections relayed now.")
OPENED = Counter("gateway_connections_opened_total", "Connections opened.")
REFUSED = Counter("gateway_refused_total", "Connections, ports and questions refused.", ["reason"])
TURNED_AWAY = Counter(
    "gateway_turned_away_total",
    "Clients who left a door before anything was decided. Rising: an attack, or too low a limit.",
    ["door", "reason"],
)
CUT = Counter("gateway_cuts_total", "Connections cut.", ["reason"])
CUT_SECONDS = Histogram(
    "gateway_cut_seconds",
    "From reading a change to having cut what depended on it. High: the database answers slowly.",
    buckets=_FINE,
)
BYTES = Counter(
    "gateway_relayed_bytes_total", "Payload relayed, counted when a connection ends.", ["direction"]
)
RTSP_DROPPED = Counter(
    "gateway_rtsp_dropped_frames_total",
    "Interleaved frames of functions that are not granted, counted when a connection ends.",
    ["direction"],
)
CHECK_SECONDS = Histogram(
    "gateway_check_seconds",
    "Reading devices that are not in memory. High: the database is slow.",
    buckets=_FINE,
)
AGENTS = Gauge("gateway_agents", "Devices whose agents are logged in here.")
AGENTS_REFUSED = Counter("gateway_agents_refused_total", "Connections of agents turned away.", ["reason"])
GRANTS_IN_MEMORY = Gauge(
    "gateway_grants_in_memory", "Grants in memory; at GRANTS_IN_MEMORY, those not used lately make room."
)
VERDICTS = Counter("gateway_verdicts_total", "Decisions. ALLOWED, or the code of the refusal.", ["code"])
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

for _code in Refusal:
    REFUSED.labels(reason=_code.value)
for _code in ("ALLOWED", *Refusal):
    VERDICTS.labels(code=_code)
for _reason in CutReason:
    CUT.labels(reason=_reason.value)
for _direction in ("to_device", "from_device"):
    RTSP_DROPPED.labels(direction=_direction)
BYTES_TO_DEVICE = BYTES.labels(direction="to_device")
BYTES_FROM_DEVICE = BYTES.labels(direction="from_device")
ALLOWED = VERDICTS.labels(code="ALLOWED")
