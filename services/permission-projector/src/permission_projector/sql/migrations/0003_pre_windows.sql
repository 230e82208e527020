-- Shares with a start and an end, invitations that expire, and the version by which a share is edited.

alter table permissions.share
    drop constraint state_is_known,
    add constraint state_is_known
        check (state in ('requested', 'active', 'rejected', 'revoked', 'left', 'expired')),
    add column expires_at timestamptz,
    -- 0: written by a release that did not know it. No event about a share is older than its invitation, so
    -- readers take the greater of both.
    add column version bigint not null default 0;
comment on column permissions.share.expires_at is
    'Until when an open invitation can be accepted; null: it has no end, or is none any more.';
comment on column permissions.share.version is
    'The version of the last event about this share; whoever edits it names the version that he saw.';
update permissions.share set version = invitation_version;

create function permission_projector.has_begun(terms jsonb, at timestamptz)
returns boolean
language sql stable parallel safe
as $$
    select coalesce((terms ->> 'starts_at')::timestamptz <= at, true)
$$;
comment on function permission_projector.has_begun is
    'Whether a share with these terms holds already at that time: from its start on.';

create function permission_projector.is_over(terms jsonb, at timestamptz)
returns boolean
language sql stable parallel safe
as $$
    select coalesce((terms ->> 'ends_at')::timestamptz <= at, false)
$$;
comment on function permission_projector.is_over is
    'Whether a share with these terms holds no more at that time: its end is not part of it.';

-- Indexes: service_by_id, the primary keys of device, device_stream and device_quarantine, share_by_account.
create function permissions_api.check_grant_v2(account text, service text, permission text, at timestamptz)
returns table (
    allowed boolean, reason text, device_id text, device_version bigint, share_id uuid, partition integer,
    target_host text, target_port integer, protocol text, lacking text[], until timestamptz
)
language sql stable security definer
set search_path = pg_catalog, pg_temp
as $$
    with found as (
        select
            device.device_id, device.partition, device.owner_account_id,
            device.owner_account_id = check_grant_v2.account as owned,
            stream.quarantine_code is not null or quarantine.device_id is not null as quarantined,
            coalesce(stream.version, 0) as device_version,
            service.service_id, service.permissions, service.target_host, service.target_port, service.protocol
        from permissions.service as service
        join permissions.device as device using (device_id)
        left join permissions.device_stream as stream using (device_id)
        left join permissions.device_quarantine as quarantine using (device_id)
        where service.service_id = check_grant_v2.service
    ),
    given as (
        -- An owner gives what he owns: shares of a former owner give nothing, whatever arrives first.
        select
            found.device_id, share.share_id, (share.terms ->> 'ends_at')::timestamptz as ends_at,
            permission_projector.granted_permissions(share.terms, found.service_id, found.permissions)
                as functions
        from found
        join permissions.share as share
            on share.account_id = check_grant_v2.account
            and share.device_id = found.device_id
            and share.state = 'active'
            and share.owner_account_id = found.owner_account_id
            and permission_projector.has_begun(share.terms, check_grant_v2.at)
            and not permission_projector.is_over(share.terms, check_grant_v2.at)
        where not found.owned
    ),
    candidate as (
        select
            found.*, by_share.share_id,
            case when owned then 'owner' when quarantined then 'quarantined' else 'granted' end as reason,
            case
                when owned then array[]::text[]
                else array(
                    select function
                    from unnest(found.permissions) as function
                    where not exists (
                        select from given
                        where given.device_id = found.device_id and function = any (given.functions)
                    )
                    order by function
                )
            end as lacking,
            -- `lacking` is what all of them together leave out, so the end of any of them changes the answer.
            (
                select min(given.ends_at) from given
                where given.device_id = found.device_id and given.functions is not null
            ) as until
        from found
        left join lateral (
            select given.share_id
            from given
            where given.device_id = found.device_id and check_grant_v2.permission = any (given.functions)
            order by given.ends_at desc nulls first, given.share_id
            limit 1
        ) as by_share on true
        where by_share.share_id is not null
            or found.owned and check_grant_v2.permission = any (found.permissions || array['scripting'])
    ),
    finding as (
        select candidate.*
        from candidate
        order by array_position(array['owner', 'granted', 'quarantined'], candidate.reason), candidate.device_id
        limit 1
    )
    select
        told.reason is not null, coalesce(finding.reason, 'no_grant'),
        told.device_id, told.device_version, told.share_id, told.partition,
        told.target_host, told.target_port, told.protocol, told.lacking, told.until
    from (select) as always_a_row
    left join finding on true
    left join finding as told on told.reason in ('owner', 'granted')
$$;
comment on function permissions_api.check_grant_v2 is
    'May the account use this permission on this service at that time? Always one row. `lacking`: what the service can do and the account may not. `until`: when the answer changes by itself and must be asked again; null: never.';

-- As it was, for gateways that ask it still; a window holds for them too.
create or replace function permissions_api.check_grant_v1(
    account text, service text, permission text, at timestamptz
)
returns table (
    allowed boolean, reason text, device_id text, device_version bigint, share_id uuid, partition integer,
    target_host text, target_port integer, protocol text, lacking text[]
)
language sql stable security definer
set search_path = pg_catalog, pg_temp
as $$
    select
        answer.allowed, answer.reason, answer.device_id, answer.device_version, answer.share_id,
        answer.partition, answer.target_host, answer.target_port, answer.protocol, answer.lacking
    from permissions_api.check_grant_v2(account, service, permission, at) as answer
$$;

revoke all on function permission_projector.has_begun, permission_projector.is_over from public;
revoke all on function permissions_api.check_grant_v2 from public;
grant execute on function permissions_api.check_grant_v2 to permissions_reader;
