"""What operators watch. Help texts say what a high value means."""

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge

from notifier.planner import Channel, Template

OUTCOMES = ("sent", "failed", "superseded", "expired")
UNROUTED = ("superseded", "expired", "failed")
RETRY_REASONS = ("deferred", "internal")


class Metrics:
    """The notifier's counters and gauges, in ``registry``; all label sets are there from the start."""

    def __init__(self, registry: CollectorRegistry = REGISTRY) -> None:
        self.planned = Counter(
            "notices_planned_total", "Notices that events gave rise to.", ["template"], registry=registry
        )
        self.finished = Counter(
            "deliveries_finished_total",
            "Notices by what became of them. `failed` growing: wrong addresses, or the server refuses us.",
            ["channel", "outcome"],
            registry=registry,
        )
        self.retried = Counter(
            "deliveries_retried_total",
            "Tries put off. `deferred` growing: a mail server or push service is away; `internal`: a bug, "
            "see the log.",
            ["channel", "reason"],
            registry=registry,
        )
        self.waited = Counter(
            "notices_waited_total",
            "Looks at a notice before names or address had arrived. Growing steadily: a directory lags.",
            registry=registry,
        )
        self.unrouted = Counter(
            "notices_unrouted_total",
            "Notices that went out on no way. `failed` growing: addresses that take no mail.",
            ["outcome"],
            registry=registry,
        )
        self.dead_letters = Counter(
            "notifier_dead_letters_total", "Records set aside because they cannot be read.", registry=registry
        )
        self.oldest_due_seconds = Gauge(
            "deliveries_oldest_due_age_seconds",
            "Age of the oldest notice not yet sent. High: mails are late.",
            registry=registry,
        )
        self.long_without_facts = Gauge(
            "deliveries_long_without_facts",
            "Notices that wait too long for a name or an address. Above 0: alarm, a directory has stopped.",
            registry=registry,
        )
        for template in Template:
            self.planned.labels(template)
        for outcome in UNROUTED:
            self.unrouted.labels(outcome)
        for channel in Channel:
            for outcome in OUTCOMES:
                self.finished.labels(channel, outcome)
            for reason in RETRY_REASONS:
                self.retried.labels(channel, reason)
