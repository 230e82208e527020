-- All that decides about one device, for gateways that answer from memory.

-- The functions are written before the tables are there.
set local check_function_bodies = off;

-- Indexes: service_by_id, the primary keys of device, service, share, share_event and both quarantines.
create function permissions_api.device_grants_v1(service text, at timestamptz)
returns table (
    device_id text, owner_account_id text, device_version bigint, partition integer, quarantined boolean,
    services jsonb, shares jsonb
)
language sql stable security definer
set search_path = pg_catalog, pg_temp
as $$
    select
        device.device_id,
        device.owner_account_id,
        coalesce(
            (
                select max(event.version) from permissions.share_event as event
                where event.device_id = device.device_id
            ),
            0
        ),
        device.partition,
        stream.device_id is not null or quarantine.device_id is not null,
        (
            select jsonb_agg(
                jsonb_build_object(
                    'service_id', each.service_id, 'protocol', each.protocol, 'channel', each.channel,
                    'target_host', each.target_host, 'target_port', each.target_port,
                    'live_path', each.live_path, 'recording_path', each.recording_path,
                    'permissions', to_jsonb(each.permissions)
                )
            )
            from permissions.service as each
            where each.device_id = device.device_id
        ),
        (
            -- An owner gives what he owns: shares of a former owner give nothing, whatever arrives first.
            select coalesce(
                jsonb_agg(
                    jsonb_build_object(
                        'share_id', share.share_id, 'account_id', share.account_id,
                        'terms', share.terms - 'starts_at' - 'ends_at',
                        'begins_in', extract(epoch from (share.terms ->> 'starts_at')::timestamptz - $2),
                        'ends_in', extract(epoch from (share.terms ->> 'ends_at')::timestamptz - $2)
                    )
                ),
                '[]'
            )
            from permissions.share as share
            where share.device_id = device.device_id
                and share.state = 'active'
                and share.owner_account_id = device.owner_account_id
                and not permission_projector.is_over(share.terms, $2)
        )
    from (
        select distinct found.device_id from permissions.service as found where found.service_id = $1
    ) as wanted
    join permissions.device as device using (device_id)
    left join permissions.stream_quarantine as stream using (device_id)
    left join permissions.device_quarantine as quarantine using (device_id)
$$;
comment on function permissions_api.device_grants_v1 is
    'The devices that have this service, mostly one, each with its owner, services, and the shares that give access at that time or will later: what check_grant_v2 decides by. Times are seconds from then.';

revoke all on function permissions_api.device_grants_v1 from public;
grant execute on function permissions_api.device_grants_v1 to permissions_reader;
