"""Access keys in GraphQL, in the names and shapes of remote.it's schema and desktop client."""

from datetime import datetime
from typing import Self

import strawberry

from portal import access_keys
from portal.context import Context
from servicekit.http import ApiError

_Info = strawberry.Info[Context, None]


@strawberry.type(description="A key with which scripts sign requests. Its secret was shown when it was made.")
class AccessKey:
    """One key of the caller."""

    key: str = strawberry.field(description="Its id, R3_ACCESS_KEY_ID in credentials files.")
    enabled: bool
    created: datetime
    last_used: datetime | None = strawberry.field(description="To the minute; null: never.")

    @classmethod
    def of(cls, key: access_keys.AccessKey) -> Self:
        """A key as the table has it."""
        return cls(key=key.key_id, enabled=key.enabled, created=key.created_at, last_used=key.last_used_at)


@strawberry.type(description="A key that was just made.")
class AccessKeyResponse:
    """The only answer that has the secret."""

    key: str = strawberry.field(description="Its id, R3_ACCESS_KEY_ID in credentials files.")
    secret: str = strawberry.field(
        description="In base64, R3_SECRET_ACCESS_KEY in credentials files. It cannot be shown again."
    )


@strawberry.type(name="APIKey", description="remote.it's older kind of key. There are none here.")
class ApiKey:
    """For clients that ask for it beside the access keys."""

    key: str
    updated: datetime


@strawberry.type
class AccessKeyFields:
    """What a user has of keys."""

    @strawberry.field(description="The caller's access keys, oldest first.")
    async def access_keys(self, info: _Info) -> list[AccessKey]:
        """Enabled and disabled ones."""
        keys = await info.context.access_keys.of(info.context.account_id)
        return [AccessKey.of(key) for key in keys]

    @strawberry.field(description="A developer key is not needed here: null.")
    def api_key(self) -> ApiKey | None:
        """None is ever made."""
        return None


@strawberry.type
class AccessKeyMutations:
    """What can be done with keys."""

    @strawberry.mutation(
        description=f"Make an access key. At most {access_keys.MAX_ENABLED} may be enabled at a time."
    )
    async def create_access_key(self, info: _Info) -> AccessKeyResponse:
        """Refused with LIMIT_REACHED when there are as many as may be."""
        made = await info.context.access_keys.create(info.context.account_id)
        await info.context.own_changes.tell(info.context.account_id, "access_keys")
        return AccessKeyResponse(key=made.key_id, secret=made.secret)

    @strawberry.mutation(description="Enable or disable one of the caller's access keys.")
    async def update_access_key(self, info: _Info, key: str, enabled: bool) -> AccessKey | None:
        """Null beside an error when there is no such key, or too many are enabled."""
        context = info.context
        changed = await context.access_keys.set_enabled(context.account_id, key, enabled=enabled)
        await context.own_changes.tell(context.account_id, "access_keys")
        return AccessKey.of(changed)

    @strawberry.mutation(description="Delete one of the caller's access keys for good.")
    async def delete_access_key(self, info: _Info, key: str) -> bool:
        """False beside an error when there is no such key: a mistyped id must not pass as deleted."""
        context = info.context
        try:
            await context.access_keys.delete(context.account_id, key)
            await context.own_changes.tell(context.account_id, "access_keys")
        except ApiError as error:
            context.refuse(info.path.as_list(), error)
            return False
        return True
