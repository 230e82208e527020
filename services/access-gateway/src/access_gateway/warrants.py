"""A request that comes again and again, as at a port: decided without working it out anew."""

from typing import Any

from access_gateway.audit import Audit
from access_gateway.decisions import Decider, decided_line
from access_gateway.journal import Forms, opened_event
from access_gateway.policy import AccessRequest, Allowed, Found, ServiceAccess
from access_gateway.targets import Targets
from contracts.base import new_id
from contracts.permissions import Permission
from servicekit.telemetry import correlated, correlation_id

Target = tuple[int, tuple[Any, ...]]
"""Address family and address, as `socket.socket` takes them."""


class Warrant:
    """What one request is granted, for as long as memory says the same.

    It says yes only where `Decider.check_now` would. Whatever else there is to say, it leaves to that.
    """

    def __init__(
        self,
        request: AccessRequest,
        device_id: str,
        *,
        way: str,
        decider: Decider,
        targets: Targets,
        audit: Audit,
        gateway_id: str,
    ) -> None:
        """It may lead to this device only. What comes of it belongs to the piece of work at hand."""
        self.request = request
        self.cause = correlation_id()
        self.access: ServiceAccess
        self.permission: Permission
        self.forms: Forms
        self._device_id, self._way, self._gateway_id = device_id, way, gateway_id
        self._decider, self._targets, self._audit = decider, targets, audit
        self._found: Found | None = None

    def age(self) -> float | None:
        """The age of the grant, if it is granted now; `access` and the rest are of it. None: ask `decide`."""
        found = self._decider.known(self.request)
        if found is None:
            return None
        if found is self._found:
            return self._decider.fresh_age(self.access.partition)
        answer = self._decider.check_now(self.request)
        if not isinstance(answer, Allowed) or answer.access.device_id != self._device_id:
            return None
        self._work_out(answer)
        self._found = found
        return answer.age

    def target(self) -> Target | None:
        """Where it leads, if that can be dialled without asking anybody."""
        return self._targets.direct(self.access)

    def _work_out(self, answer: Allowed) -> None:
        self.access, self.permission = answer.access, answer.permission
        opened = opened_event(
            new_id(),
            self.request,
            answer.access,
            answer.permission,
            way=self._way,
            gateway_id=self._gateway_id,
        )
        with correlated(self.cause):
            self.forms = Forms(self._audit, opened, decided_line(self.request, answer))
