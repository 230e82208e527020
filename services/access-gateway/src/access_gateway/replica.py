"""What is granted, in memory: a bounded part of the devices, each as it was read, until it changes."""

import math
from collections import OrderedDict
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field

from access_gateway.policy import DeviceGrants, Found, find

TRUSTED_SECONDS = 600.0
"""How far ahead a start or an end is believed: by then our clock has gone another way than the database's."""


@dataclass(slots=True, eq=False)
class _Device:
    """A device in memory, and the services by which it is known."""

    grants: DeviceGrants
    believed_until: float
    weight: int
    known_by: set[str] = field(default_factory=set[str])


@dataclass(slots=True, eq=False)
class _Service:
    """A service as it was read: its devices (none: there is no such service), and what was found for an
    account, with the time until which that holds."""

    devices: tuple[_Device, ...]
    began: float
    answers: dict[str, tuple[Found, float]] = field(default_factory=dict[str, tuple[Found, float]])


class Replica:
    """Devices by their services, those asked for last. It holds at most ``capacity`` grants.

    Counted as one each: a device, each of its services and shares, a service that was asked for (also one
    that does not exist), and each account's access that was worked out. A single device may be larger.

    Access holds until its device is dropped. That there is none is true of the time when it was read, but
    not a moment longer: a device that is not in memory may give it. Who asks looks at `began`.
    """

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._services: OrderedDict[str, _Service] = OrderedDict()
        self._devices: dict[str, _Device] = {}
        self._weight = 0

    def __len__(self) -> int:
        """Grants in memory."""
        return self._weight

    def find(self, account_id: str, service_id: str, now: float) -> Found | None:
        """What the account may do with the service at ``now`` of our monotonic clock; None: read it first."""
        service = self._services.get(service_id)
        if service is None:
            return None
        known = service.answers.get(account_id)
        if known is not None and now < known[1]:
            self._services.move_to_end(service_id)
            return known[0]
        return self._work_out(account_id, service_id, service, now)

    def devices(self, service_id: str) -> tuple[DeviceGrants, ...]:
        """The devices that have a service; empty also when it is not in memory."""
        service = self._services.get(service_id)
        return () if service is None else tuple(device.grants for device in service.devices)

    def began(self, service_id: str) -> float:
        """When the statement began that read this service; minus infinity if it is not in memory."""
        service = self._services.get(service_id)
        return -math.inf if service is None else service.began

    def _work_out(self, account_id: str, service_id: str, service: _Service, now: float) -> Found | None:
        if any(device.believed_until <= now for device in service.devices):
            return None
        found = find((device.grants for device in service.devices), account_id, service_id, now)
        if not found.accesses:
            return found
        holds = min(
            *(device.believed_until for device in service.devices),
            *(access.until or math.inf for access in found.accesses),
        )
        if account_id not in service.answers:
            self._weight += 1
        service.answers[account_id] = found, holds
        self._services.move_to_end(service_id)
        self._make_room(service_id)
        return found

    def put(self, service_id: str, devices: Collection[DeviceGrants], *, began: float) -> None:
        """Keep what was read of a service, by a statement that began then. None of these devices has been
        dropped since: else read again."""
        self._forget(service_id)
        kept = tuple(self._keep(device, service_id, began) for device in devices)
        self._services[service_id] = _Service(kept, began)
        self._weight += 1
        self._make_room(service_id)

    def _keep(self, grants: DeviceGrants, service_id: str, began: float) -> _Device:
        shares = [share for of_account in grants.shares.values() for share in of_account]
        windowed = any(share.begins is not None or share.ends is not None for share in shares)
        believed_until = began + TRUSTED_SECONDS if windowed else math.inf
        weight = 1 + len(grants.services) + len(shares)
        device = self._devices.get(grants.device_id)
        if device is None:
            device = self._devices[grants.device_id] = _Device(grants, believed_until, weight)
            self._weight += weight
        else:  # known by another service; what was worked out for that one is as true as before
            self._weight += weight - device.weight
            device.grants, device.believed_until, device.weight = grants, believed_until, weight
        device.known_by.add(service_id)
        return device

    def drop(self, device_ids: Iterable[str] | None) -> None:
        """Forget devices that have changed; None: all."""
        if device_ids is None:
            self._services.clear()
            self._devices.clear()
            self._weight = 0
            return
        for device_id in device_ids:
            device = self._devices.get(device_id)
            if device is not None:
                for service_id in list(device.known_by):
                    self._forget(service_id)

    def _forget(self, service_id: str) -> None:
        service = self._services.pop(service_id, None)
        if service is None:
            return
        self._weight -= 1 + len(service.answers)
        for device in service.devices:
            device.known_by.discard(service_id)
            if not device.known_by:
                self._weight -= device.weight
                del self._devices[device.grants.device_id]

    def _make_room(self, newest: str) -> None:
        while self._weight > self._capacity and len(self._services) > 1:
            oldest = next(iter(self._services))
            if oldest == newest:
                return
            self._forget(oldest)
