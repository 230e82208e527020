"""The gateway: where every protocol gets its connections, and where all of them end."""

from uuid import UUID

from access_gateway.audit import Audit
from access_gateway.connections import Connection, Cut, Means
from access_gateway.decisions import Decider
from access_gateway.errors import ConnectionNotFoundError, UnavailableError
from access_gateway.grants import GrantStore
from access_gateway.holdings import Holdings
from access_gateway.journal import Journal
from access_gateway.pinned import StoreUnavailableError
from access_gateway.policy import AccessRequest
from access_gateway.refusals import Refusals
from access_gateway.relay import Engine, Limits
from access_gateway.settings import Settings
from access_gateway.targets import Targets
from access_gateway.warrants import Warrant
from contracts.events import CutReason


class Gateway:
    """Makes connections. Protocols build the request and obey."""

    def __init__(
        self,
        settings: Settings,
        *,
        store: GrantStore,
        holdings: Holdings,
        audit: Audit,
        targets: Targets,
    ) -> None:
        self._store = store
        self.decider = Decider(store, max_staleness=settings.max_staleness_seconds)
        self.refusals = Refusals(audit, gateway_id=settings.gateway_id)
        self.engine = Engine()
        self._audit, self._targets = audit, targets
        self._means = Means(
            settings=settings,
            decider=self.decider,
            holdings=holdings,
            refusals=self.refusals,
            audit=audit,
            journal=Journal(audit),
            targets=targets,
            engine=self.engine,
            limits=Limits(
                idle_seconds=settings.connection_idle_seconds,
                total_seconds=settings.connection_seconds,
                bytes_per_second=settings.connection_bytes_per_second,
            ),
        )

    def connection(
        self, request: AccessRequest, *, way: str, source: str | None = None, cut: Cut | None = None
    ) -> Connection:
        """A connection for this request; nothing has been decided yet.

        ``way`` is by what it came in, ``source`` the client's origin (for limits only; it is not logged).
        """
        return Connection(self._means, request, way=way, source=source, cut=cut)

    def warrant(self, request: AccessRequest, device_id: str, *, way: str) -> Warrant:
        """For the many connections of one request without positions, to this device."""
        return Warrant(
            request,
            device_id,
            way=way,
            decider=self.decider,
            targets=self._targets,
            audit=self._audit,
            gateway_id=self._means.settings.gateway_id,
        )

    async def cut(self, account_id: str, connection_id: UUID) -> None:
        """Cut what is open here to a device of the account's, or by the account itself.

        Raises:
            ConnectionNotFoundError: there is nothing of this id here that is his to cut.
            UnavailableError: whose the device is cannot be read now.
        """
        text_id = str(connection_id)
        held = (item for item in self._means.holdings.all() if isinstance(item, Connection))
        for connection in held:
            if connection.text_id != text_id:
                continue
            if connection.request.account_id == account_id or await self._owns(account_id, connection):
                connection.end(CutReason.BY_HAND)
                return
        raise ConnectionNotFoundError

    async def _owns(self, account_id: str, connection: Connection) -> bool:
        service_id = connection.request.service_id
        found = self._store.find(account_id, service_id)
        if found is None:
            try:
                await self._store.read([service_id])
            except StoreUnavailableError:
                raise UnavailableError("It cannot be read now whose device this is.") from None
            found = self._store.find(account_id, service_id)
        accesses = found.accesses if found is not None else ()
        return any(access.owned and access.device_id == connection.device_id for access in accesses)
