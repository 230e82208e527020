"""What the portal counts. Labels come from closed sets; none holds an id or an address."""

from typing import Final

from prometheus_client import Counter, Histogram

GRAPHQL_REQUESTS: Final = Counter(
    "portal_graphql_requests_total",
    "GraphQL requests by outcome; many `failed` mean a bug or a service that is down.",
    ["outcome"],
)
GRAPHQL_SECONDS: Final = Histogram(
    "portal_graphql_seconds", "Time to answer a GraphQL request; high values mean a slow service behind."
)
PEER_SECONDS: Final = Histogram(
    "portal_peer_seconds",
    "Time until another service answered; `unreachable` should stay at zero.",
    ["peer", "outcome"],
)
SIGN_INS: Final = Counter(
    "portal_sign_ins_total",
    "Sign-ins in the browser by outcome; many `failed` mean a wrong registration at the issuer.",
    ["outcome"],
)

for _outcome in ("ok", "refused", "malformed", "unauthenticated", "failed"):
    GRAPHQL_REQUESTS.labels(outcome=_outcome)
for _outcome in ("ok", "failed"):
    SIGN_INS.labels(outcome=_outcome)
for _peer in ("share-command", "permission-projector", "access-gateway"):
    for _outcome in ("ok", "refused", "unreachable"):
        PEER_SECONDS.labels(peer=_peer, outcome=_outcome)
