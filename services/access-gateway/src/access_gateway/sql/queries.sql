-- What the gateway asks of the database: functions of the schema permissions_api, and nothing else.

-- name: device_grants
-- GrantStore, when a device is not in memory. One statement whatever the answer will be, so that a service that
-- does not exist takes as long as one that is not granted. Needs the indexes behind device_grants_v1: a service
-- by its id, a device, its services and its shares by its id.
select
    wanted.service_id, g.device_id, g.owner_account_id, g.device_version, g.partition, g.quarantined,
    g.services, g.shares
from unnest($1::text[]) as wanted (service_id)
cross join lateral permissions_api.device_grants_v1(wanted.service_id, now()) as g;

-- name: freshness
-- GrantStore.watch, once a second. Needs no index: a row for each partition.
select f.partition, extract(epoch from f.now - f.as_of)::double precision as age
from permissions_api.freshness_v1() as f;

-- name: changes
-- GrantStore.watch, after each notification and once a second. Needs the change table's primary key.
select c.generation, c.id, c.device_id, c.correlation_id
from permissions_api.changes_v1($1, $2, $3) as c;

-- name: owned_services
-- GrantStore.services_of, a page of an account's own devices. Needs device_by_owner and the service's key.
select s.name, s.device_id, s.services from permissions_api.owned_services_v1($1, $2, $3, $4) as s;

-- name: shared_services
-- GrantStore.services_of, a page of what is shared with an account. Needs share_by_account and those keys.
select '' as name, s.device_id, s.services from permissions_api.shared_services_v1($1, $2, $3) as s;
