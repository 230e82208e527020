-- Generations. The tables of the read models are no longer a migration's: `permission-projector migrate` makes the
-- first generation with sql/generation/*.sql, and `permission-projector replay` every other one. What stood here
-- had no history; it goes, and the topics are read from their beginning. Until they are, nobody has access by a
-- share, as whenever the read models are behind.
drop schema permissions cascade;

-- The functions are written before the tables are there.
set local check_function_bodies = off;

-- Indexes: service_by_id, the primary keys of device, share_event and both quarantines, share_by_account.
create or replace function permissions_api.check_grant_v2(account text, service text, permission text, at timestamptz)
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
            stream.device_id is not null or quarantine.device_id is not null as quarantined,
            coalesce(
                (
                    select max(event.version) from permissions.share_event as event
                    where event.device_id = device.device_id
                ),
                0
            ) as device_version,
            service.service_id, service.permissions, service.target_host, service.target_port, service.protocol
        from permissions.service as service
        join permissions.device as device using (device_id)
        left join permissions.stream_quarantine as stream using (device_id)
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

-- Index: change_of_devices. A row of the feed is never told in part, so that a cursor is never inside one.
create or replace function permissions_api.changes_v1(known_generation integer, after_id bigint, max_rows integer)
returns table (generation integer, id bigint, device_id text, correlation_id text)
language sql stable security definer
set search_path = pg_catalog, pg_temp
as $$
    with live as (
        select
            generation.number,
            coalesce((select max(change.id) from permissions.change as change), 0) as newest,
            coalesce((select min(change.id) from permissions.change as change), 1) as oldest
        from permissions.generation as generation
    ),
    cursor as (
        select
            live.number, live.newest,
            changes_v1.known_generation is not distinct from live.number
            and coalesce(changes_v1.after_id between live.oldest - 1 and live.newest, false) as usable
        from live
    ),
    following as (
        select change.*, sum(cardinality(change.device_ids)) over (order by change.id) as devices
        from (
            select change.id, change.device_ids, change.correlation_ids
            from permissions.change as change
            where change.id > changes_v1.after_id and cardinality(change.device_ids) > 0
            order by change.id
            limit greatest(changes_v1.max_rows, 1)
        ) as change
    ),
    told as (
        select following.*
        from following
        where following.devices - cardinality(following.device_ids) < greatest(changes_v1.max_rows, 1)
    )
    select cursor.number, cursor.newest, null::text, null::text
    from cursor
    where not cursor.usable
    union all
    select cursor.number, told.id, touched.device_id, touched.correlation_id
    from cursor
    join told on cursor.usable
    cross join lateral unnest(told.device_ids, told.correlation_ids) as touched (device_id, correlation_id)
    order by 2
$$;
