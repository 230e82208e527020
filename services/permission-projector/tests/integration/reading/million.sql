-- A million devices of a thousand owners, half of them shared with one of 10,000 recipients, who have accepted all but
-- each twentieth: rows for the tables of a generation that has no indexes yet. owner-7 has a device with 1,000
-- recipients besides.

insert into account (account_id, name)
select 'owner-' || n, 'Owner ' || n from generate_series(0, 999) as n
union all
select 'guest-' || n, 'Guest ' || n from generate_series(0, 9999) as n;

insert into account_address (account_id, address, ordinal)
select account_id, 'mailto:' || account_id || '@example.com', 0 from account;

insert into contact (contact_id, address)
select ('00000000-0000-7000-8000-' || lpad(n::text, 12, '0'))::uuid, 'mailto:guest-' || n || '@example.com'
from generate_series(0, 9999) as n;

insert into device (device_id, partition, owner_account_id, name, kind, created_at)
select
    'device-' || n, n % 24, 'owner-' || n % 1000, 'Camera ' || n::bigint * 7919 % 1000000,
    case n % 3 when 0 then 'camera' when 1 then 'computer' else 'recorder' end,
    timestamptz '2026-01-01 00:00:00+00' + n * interval '1 second'
from generate_series(0, 999999) as n;

insert into service (
    device_id, service_id, ordinal, name, protocol, channel, target_host, target_port, permissions
)
select
    'device-' || n, 'device-' || n || ':' || each.name, each.ordinal, upper(each.name), 'tcp', null, '10.0.0.1', 22,
    each.permissions
from generate_series(0, 999999) as n
cross join (
    values ('ssh', 0, array['connect']), ('rtsp', 1, array['connect', 'live_view', 'playback'])
) as each (name, ordinal, permissions)
where each.ordinal = 0 or n % 4 = 0;

create temporary table given as
select
    'device-' || n as device_id, 'owner-' || n % 1000 as owner_account_id, 'guest-' || guest as account_id,
    ('00000000-0000-7000-8000-' || lpad(guest::text, 12, '0'))::uuid as contact_id,
    ('00000000-0000-7000-9000-' || lpad(n::text, 12, '0'))::uuid as share_id,
    0 as before, n % 20 = 3 as waits
from (select 2 * half + 1, half % 10000 from generate_series(0, 499999) as half) as each (n, guest)
union all
select
    'device-7', 'owner-7', 'guest-' || guest,
    ('00000000-0000-7000-8000-' || lpad(guest::text, 12, '0'))::uuid,
    ('00000000-0000-7000-a000-' || lpad(guest::text, 12, '0'))::uuid, 2 + 2 * guest, false
from generate_series(0, 999) as guest;

insert into share (
    device_id, share_id, contact_id, owner_account_id, state, account_id, terms, invitation_version, requested_at,
    since, version
)
select
    device_id, share_id, contact_id, owner_account_id, case when waits then 'requested' else 'active' end,
    case when not waits then account_id end,
    '{"scope": {"kind": "all", "permissions": "all"}, "scripting": false, "starts_at": null, "ends_at": null}',
    before + 1, '2026-02-01', '2026-02-01', case when waits then before + 1 else before + 2 end
from given;

insert into share_event (
    device_id, version, event_id, share_id, kind, at, state, account_id, owner_account_id, contact_id, terms
)
select
    given.device_id, given.before + step, gen_random_uuid(), given.share_id,
    case step when 1 then 'ShareRequested' else 'ShareAccepted' end, '2026-02-01',
    case step when 1 then 'requested' else 'active' end, case step when 2 then given.account_id end,
    given.owner_account_id, given.contact_id,
    case step when 1 then
        '{"scope": {"kind": "all", "permissions": "all"}, "scripting": false, "starts_at": null, "ends_at": null}'
        ::jsonb
    end
from given
cross join generate_series(1, 2) as step
where step = 1 or not given.waits;

insert into change (device_ids, correlation_ids, account_ids, contact_ids)
select
    array[device_id], array[null]::text[], array[owner_account_id, account_id], array[]::uuid[]
from given
limit 100000;

insert into permission_projector.presence (device_id, online, since, gateway_id)
select 'device-' || n, n % 2 = 0, '2026-02-01', 'gateway-1' from generate_series(0, 999999, 2) as n;

insert into permission_projector.connection (
    connection_id, device_id, service_id, account_id, permission, gateway_id, opened_at, ended_at, outcome
)
select
    gen_random_uuid(), 'device-' || n, 'device-' || n || ':ssh', 'owner-' || n % 1000, 'connect', 'gateway-1',
    timestamptz '2026-02-01 00:00:00+00' + n * interval '1 second',
    case when n % 50 <> 0 then timestamptz '2026-03-01 00:00:00+00' end,
    case when n % 50 = 0 then 'open' else 'closed' end
from generate_series(0, 999999, 10) as n;

insert into permission_projector.deleted_account (account_id)
select 'deleted-' || n from generate_series(1, 10000) as n;
