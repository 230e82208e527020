"""Views over all devices of the caller: his guests, and services by id."""

from typing import Final

import strawberry

from portal import answers
from portal.context import Context
from portal.errors import InvalidRequest, LimitReached
from portal.peers import Params
from portal.people import Person
from portal.schema_types import Device, Service

_Info = strawberry.Info[Context, None]

_PAGE: Final = 1000
_MAX_PAGES: Final = 10
_MAX_SERVICES_BY_ID: Final = 100


@strawberry.type(description="Somebody who has access to devices of the caller.")
class GuestAccess:
    """One recipient and what he has accepted."""

    user: Person
    devices: list[Device]


@strawberry.type
class GuestFields:
    """What a user has of guests."""

    @strawberry.field(description="Who has access to the caller's devices, each with those devices.")
    async def guest(self, info: _Info) -> list[GuestAccess]:
        """Accepted shares only. Refused with LIMIT_REACHED beyond 10,000 devices that are shared."""
        guests: dict[str, GuestAccess] = {}
        for device in await _shared_devices(info.context):
            for entry in await info.context.access_of(device):
                if entry.state != "active" or entry.account_id is None:
                    continue
                user = Person(id=strawberry.ID(entry.account_id), email=entry.email)
                guest = guests.setdefault(entry.account_id, GuestAccess(user=user, devices=[]))
                if not guest.devices or guest.devices[-1].id != device.device_id:
                    guest.devices.append(Device.of(device))
        return list(guests.values())

    @strawberry.field(description="Services by id, in the order asked for; unknown ones are left out.")
    async def service(self, info: _Info, id: list[str]) -> list[Service]:
        """At most a hundred."""
        if len(id) > _MAX_SERVICES_BY_ID:
            raise InvalidRequest(f"At most {_MAX_SERVICES_BY_ID} services by id; use devices for more.")
        wanted, context = dict.fromkeys(id), info.context
        if not wanted:
            return []
        params: Params = {"service": list(wanted), "size": str(_PAGE)}
        page = await context.peers.read_api.devices(context.account_id, params, context.position)
        found = {
            service.service_id: Service.of(service, device)
            for device in page.items
            for service in device.services
            if service.service_id in wanted
        }
        return [found[service_id] for service_id in wanted if service_id in found]


async def _shared_devices(context: Context) -> list[answers.Device]:
    """Every device that the caller shares."""
    devices: list[answers.Device] = []
    params = {"owner": "true", "shared": "out", "size": str(_PAGE), "sort": "name"}
    for _ in range(_MAX_PAGES):
        page = await context.peers.read_api.devices(context.account_id, params, context.position)
        devices += page.items
        if page.next is None:
            return devices
        params["cursor"] = page.next
    raise LimitReached(f"More than {_PAGE * _MAX_PAGES} devices are shared. Read them with devices.")
