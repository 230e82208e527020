"""Fields of remote.it's schema for what is not kept here: clients ask, and learn that there is nothing."""

from typing import Annotated

import strawberry
from strawberry.scalars import JSON

_NOT_KEPT = "Not kept: null."


@strawberry.type
class Attributes:
    """Of devices and services."""

    @strawberry.field(description="None are kept: an empty object.")
    def attributes(
        self,
        name: Annotated[str | None, strawberry.argument(description="Ignored.")] = None,
        context: Annotated[str | None, strawberry.argument(description="Ignored.")] = None,
    ) -> JSON:
        """Of any name and context."""
        del name, context
        return JSON({})


@strawberry.type
class UnkeptDeviceFields(Attributes):
    """Of devices only."""

    hardware_id: str | None = strawberry.field(default=None, description=_NOT_KEPT)
    category_a: str | None = strawberry.field(default=None, description=_NOT_KEPT)
    category_b: str | None = strawberry.field(default=None, description=_NOT_KEPT)
    category_c: str | None = strawberry.field(default=None, description=_NOT_KEPT)
    category_d: str | None = strawberry.field(default=None, description=_NOT_KEPT)
    category_e: str | None = strawberry.field(default=None, description=_NOT_KEPT)
    status_a: str | None = strawberry.field(default=None, description=_NOT_KEPT)
    status_b: str | None = strawberry.field(default=None, description=_NOT_KEPT)
    status_c: str | None = strawberry.field(default=None, description=_NOT_KEPT)
    status_d: str | None = strawberry.field(default=None, description=_NOT_KEPT)
    status_e: str | None = strawberry.field(default=None, description=_NOT_KEPT)
