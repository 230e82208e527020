"""Somebody, as the GraphQL schema shows him."""

from typing import Self

import strawberry

from portal import answers


@strawberry.type(description="Somebody else: an owner, a recipient, a contact.")
class Person:
    """An account or a contact, by its id and address."""

    id: strawberry.ID
    email: str | None
    name: str | None = strawberry.field(default=None, description="Not in remote.it's schema.")

    @classmethod
    def from_owner(cls, person: answers.Person) -> Self:
        """An owner."""
        return cls(id=strawberry.ID(person.account_id), email=person.email, name=person.name)
