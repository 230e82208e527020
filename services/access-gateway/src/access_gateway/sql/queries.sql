-- What the gateway asks of the database: functions of the schema permissions_api, and nothing else.

-- name: check_grants
-- GrantStore.check (one account and service) and check_many (those of the open connections). One statement
-- whatever the answer will be, so that a service that does not exist takes as long as one not granted.
-- Needs the indexes behind check_grant_v1: a service by its id, the shares of a device by account.
select a.account_id, a.service_id, p.permission,
       g.allowed, g.reason, g.device_id, g.device_version, g.share_id, g.partition,
       g.target_host, g.target_port, g.protocol, g.lacking
from unnest($1::text[], $2::text[]) as a (account_id, service_id)
cross join unnest($3::text[]) as p (permission)
cross join lateral permissions_api.check_grant_v1(a.account_id, a.service_id, p.permission, now()) as g;

-- name: freshness
-- GrantStore.watch, once a second. Needs no index: a row for each partition.
select f.partition, extract(epoch from f.now - f.as_of)::double precision as age
from permissions_api.freshness_v1() as f;

-- name: changes
-- GrantStore.watch, after each notification and once a second. Needs the change table's primary key.
select c.generation, c.id, c.device_id, c.correlation_id
from permissions_api.changes_v1($1, $2, $3) as c;
