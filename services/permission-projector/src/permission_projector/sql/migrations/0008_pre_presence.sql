-- Devices that dial out to a gateway: who owns them, for the gateway's own judgement of their keys; and when what a
-- gateway said of them is no longer believed.

-- Index: the primary key of device.
set local check_function_bodies = off;
create function permissions_api.device_owners_v1(devices text[])
returns table (device_id text, owner_account_id text)
language sql stable security definer
set search_path = pg_catalog, pg_temp
as $$
    select device.device_id, device.owner_account_id
    from permissions.device as device
    where device.device_id = any (devices)
$$;
comment on function permissions_api.device_owners_v1 is
    'Who owns these devices now; no row for a device that there is not.';
revoke all on function permissions_api.device_owners_v1 from public;
grant execute on function permissions_api.device_owners_v1 to permissions_reader;

-- A gateway repeats the presence of one of its devices every 15 s, so that one which is silent for a minute is dead,
-- or cut off: nobody vouches for what it told. Of connections it tells only when they begin and end.
create or replace view permission_projector.presence_status as
select
    presence.*, gateway.heard_at as gateway_heard_at,
    presence.online and (gateway.heard_at is null or gateway.heard_at < now() - interval '1 minute') as in_doubt
from permission_projector.presence
left join permission_projector.gateway using (gateway_id);
