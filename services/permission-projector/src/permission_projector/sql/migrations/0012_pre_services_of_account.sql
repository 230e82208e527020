-- Which services an account may have something to do with, for gateways that are asked for all of them.

-- The functions are written before the tables are there.
set local check_function_bodies = off;

-- Index: device_by_owner, then the primary key of service.
create function permissions_api.owned_services_v1(account text, from_name text, from_device text, max_devices integer)
returns table (name text, device_id text, services text[])
language sql stable security definer
set search_path = pg_catalog, pg_temp
as $$
    select
        "left"(lower(device.name), 100),
        device.device_id,
        array(
            select service.service_id from permissions.service as service
            where service.device_id = device.device_id
            order by service.service_id
        )
    from permissions.device as device
    where device.owner_account_id = $1
        and ("left"(lower(device.name), 100), device.device_id) >= ($2, $3)
    order by "left"(lower(device.name), 100), device.device_id
    limit $4
$$;
comment on function permissions_api.owned_services_v1 is
    'Devices that the account owns, in a fixed order from this place on ('''', '''': all), with their services.';

-- Indexes: share_by_account, then the primary keys of device and service.
create function permissions_api.shared_services_v1(account text, from_device text, max_devices integer)
returns table (device_id text, services text[])
language sql stable security definer
set search_path = pg_catalog, pg_temp
as $$
    select
        shared.device_id,
        array(
            select service.service_id from permissions.service as service
            where service.device_id = shared.device_id
            order by service.service_id
        )
    from (
        select distinct share.device_id
        from permissions.share as share
        where share.account_id = $1 and share.state = 'active' and share.device_id >= $2
        order by share.device_id
        limit $3
    ) as shared
    order by shared.device_id
$$;
comment on function permissions_api.shared_services_v1 is
    'Devices of which the account has a share, in the order of their ids from this one on ('''': all), with all of their services. What it may do with them the grants decide.';

revoke all on function permissions_api.owned_services_v1, permissions_api.shared_services_v1 from public;
grant execute on function permissions_api.owned_services_v1, permissions_api.shared_services_v1
    to permissions_reader;
