-- The ways in for other services. Bodies are strings and not `begin atomic`: names are looked up when a
-- function is planned, so that they follow a schema that is renamed.

create function permission_projector.granted_permissions(terms jsonb, service_id text, supported text[])
returns text[]
language sql immutable parallel safe
as $$
    select case
        when scope.chosen is null then null
        else array(
            select function
            from unnest(supported) as function
            where function <> 'scripting' and (scope.chosen = '"all"'::jsonb or scope.chosen ? function)
        ) || case when (terms ->> 'scripting')::boolean then array['scripting'] else array[]::text[] end
    end
    from (
        select case terms -> 'scope' ->> 'kind'
            when 'all' then terms -> 'scope' -> 'permissions'
            when 'some' then terms -> 'scope' -> 'services' -> service_id
        end as chosen
    ) as scope
$$;
comment on function permission_projector.granted_permissions is
    'What terms give on a service that supports these permissions; null when it is out of scope. Means what contracts.permissions.granted means.';

-- Indexes: service_by_id, the primary keys of device, device_stream and device_quarantine, share_by_account.
create function permissions_api.check_grant_v1(account text, service text, permission text, at timestamptz)
returns table (
    allowed boolean, reason text, device_id text, device_version bigint, share_id uuid, partition integer,
    target_host text, target_port integer, protocol text, lacking text[]
)
language sql stable security definer
set search_path = pg_catalog, pg_temp
as $$
    with found as (
        select
            device.device_id, device.partition, device.owner_account_id,
            device.owner_account_id = check_grant_v1.account as owned,
            stream.quarantine_code is not null or quarantine.device_id is not null as quarantined,
            coalesce(stream.version, 0) as device_version,
            service.service_id, service.permissions, service.target_host, service.target_port, service.protocol
        from permissions.service as service
        join permissions.device as device using (device_id)
        left join permissions.device_stream as stream using (device_id)
        left join permissions.device_quarantine as quarantine using (device_id)
        where service.service_id = check_grant_v1.service
    ),
    given as (
        -- An owner gives what he owns: shares of a former owner give nothing, whatever arrives first.
        select
            found.device_id, share.share_id,
            permission_projector.granted_permissions(share.terms, found.service_id, found.permissions)
                as functions
        from found
        join permissions.share as share
            on share.account_id = check_grant_v1.account
            and share.device_id = found.device_id
            and share.state = 'active'
            and share.owner_account_id = found.owner_account_id
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
            end as lacking
        from found
        left join lateral (
            select given.share_id
            from given
            where given.device_id = found.device_id and check_grant_v1.permission = any (given.functions)
            order by given.share_id
            limit 1
        ) as by_share on true
        where by_share.share_id is not null
            or found.owned and check_grant_v1.permission = any (found.permissions || array['scripting'])
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
        told.target_host, told.target_port, told.protocol, told.lacking
    from (select) as always_a_row
    left join finding on true
    left join finding as told on told.reason in ('owner', 'granted')
$$;
comment on function permissions_api.check_grant_v1 is
    'May the account use this permission on this service at that time? Always one row. `lacking`: what the service can do and the account may not.';

-- Indexes: watermark_by_time, the primary key of kafka_offset. 24 is the number of device partitions, for ever.
create function permissions_api.freshness_v1()
returns table (partition integer, as_of timestamptz, now timestamptz)
language sql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
    select place.number, proof.as_of, clock_timestamp()
    from generate_series(0, 23) as place (number)
    left join lateral (
        select watermark.as_of
        from permissions.watermark as watermark
        left join permissions.kafka_offset as events
            on events.topic = watermark.events_topic and events.partition = place.number
        left join permissions.kafka_offset as devices
            on devices.topic = watermark.devices_topic and devices.partition = place.number
        where watermark.events_ends[place.number + 1] <= coalesce(events.next_offset, 0)
            and watermark.events_topic_id = coalesce(events.topic_id, watermark.events_topic_id)
            and watermark.devices_ends[place.number + 1] <= coalesce(devices.next_offset, 0)
            and watermark.devices_topic_id = coalesce(devices.topic_id, watermark.devices_topic_id)
        order by watermark.as_of desc
        limit 1
    ) as proof on true
$$;
comment on function permissions_api.freshness_v1 is
    'For each device partition, the time up to which everything committed is applied here, and the time now.';

-- Index: the primary key of change.
create function permissions_api.changes_v1(known_generation integer, after_id bigint, max_rows integer)
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
    answer as (
        select cursor.number, cursor.newest as id, null::text as device_id, null::text as correlation_id
        from cursor
        where not cursor.usable
        union all
        (
            select cursor.number, change.id, change.device_id, change.correlation_id
            from cursor
            join permissions.change as change on cursor.usable and change.id > changes_v1.after_id
            order by change.id
            limit least(greatest(coalesce(changes_v1.max_rows, 1), 1), 10000)
        )
    )
    select answer.number, answer.id, answer.device_id, answer.correlation_id from answer order by answer.id
$$;
comment on function permissions_api.changes_v1 is
    'Devices changed after a cursor. A row without device: the cursor is of no use, check everything and go on from this one.';

revoke all on all functions in schema permissions_api from public;
revoke all on function permission_projector.granted_permissions from public;
grant execute on all functions in schema permissions_api to permissions_reader;
