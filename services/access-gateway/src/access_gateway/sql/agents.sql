-- Statements about agents, in the gateway's own schema, which is the role's search_path.

-- name: owner
-- AgentStore.create_code: the device's owner now. Primary key of the read model's devices.
select owner_account_id from permissions_api.device_owners_v1(array[$1::text]);

-- name: forget_codes
-- AgentStore.create_code, so that the table stays as small as its use. Needs agent_code_expires_at.
delete from agent_code where expires_at <= now();

-- name: create_code
-- AgentStore.create_code. Primary key.
insert into agent_code as stored (device_id, selector, secret_hash, owner_account_id, expires_at, tries_left)
values ($1, $2, $3, $4, now() + make_interval(secs => $5), $6)
on conflict (device_id) do update set
    selector = excluded.selector, secret_hash = excluded.secret_hash,
    owner_account_id = excluded.owner_account_id, expires_at = excluded.expires_at,
    tries_left = excluded.tries_left, key_hash = null
returning expires_at;

-- name: find_code
-- AgentStore.enrol. Needs a_selector_finds_one_code. Locked, so that of two at once one comes after the other.
select code.device_id, code.secret_hash, code.owner_account_id, code.tries_left, code.key_hash,
    owner.owner_account_id as present_owner
from agent_code as code
left join lateral permissions_api.device_owners_v1(array[code.device_id]) as owner on true
where code.selector = $1 and code.expires_at > now()
for update of code;

-- name: one_try_less
-- AgentStore.enrol: a wrong secret. Primary key.
update agent_code set tries_left = tries_left - 1 where device_id = $1;

-- name: delete_code
-- AgentStore.enrol and AgentStore.remove. Primary key.
delete from agent_code where device_id = $1;

-- name: use_code
-- AgentStore.enrol. Primary key.
update agent_code set key_hash = $2 where device_id = $1;

-- name: enrol
-- AgentStore.enrol. Primary key.
insert into agent (device_id, owner_account_id, key_hash) values ($1, $2, $3)
on conflict (device_id) do update set
    owner_account_id = excluded.owner_account_id, key_hash = excluded.key_hash, enrolled_at = now();

-- name: judge
-- AgentStore.judge: the agents of some devices, and whether their keys are good, void, or cannot be judged now,
-- because what is known of devices and owners is not fresh ($2, in seconds). One row for each that is enrolled.
-- Primary keys of agent and of the read model's devices.
select agent.device_id, agent.owner_account_id, agent.key_hash,
    case
        when owner.owner_account_id = agent.owner_account_id then 'good'
        when (
            select coalesce(bool_and(f.as_of is not null and f.now - f.as_of < make_interval(secs => $2)), false)
            from permissions_api.freshness_v1() as f
        ) then 'void'
        else 'unknown'
    end as standing
from agent
left join permissions_api.device_owners_v1($1::text[]) as owner using (device_id)
where agent.device_id = any ($1::text[]);

-- name: void
-- AgentStore.void: keys of a former owner. Primary key.
delete from agent using unnest($1::text[], $2::text[]) as gone (device_id, owner_account_id)
where agent.device_id = gone.device_id and agent.owner_account_id = gone.owner_account_id
returning agent.device_id;

-- name: remove
-- AgentStore.remove. Primary key.
delete from agent where device_id = $1;

-- name: notify
-- Whatever changes agents, in the same transaction: gateways look at the device again.
select pg_notify('agents_changed', $1);

-- name: heartbeat
-- Watch, every few seconds: this gateway lives. Primary key.
insert into gateway (gateway_id, agent_address, heard_at) values ($1, $2, clock_timestamp())
on conflict (gateway_id) do update set
    agent_address = excluded.agent_address, heard_at = excluded.heard_at;

-- name: farewell
-- Watch: this gateway ends. Primary key.
delete from gateway where gateway_id = $1;

-- name: gateways
-- Watch: where agents can log in now. $1: seconds after which a silent gateway counts as dead. A row each.
select agent_address from gateway
where heard_at > clock_timestamp() - make_interval(secs => $1)
order by gateway_id;

-- name: left_behind
-- Watch: some devices with rows that nobody looks after: those of dead gateways, and of gateway $2, which has just
-- started. $1 as in `gateways`. Reads the table, which has a row for each connected agent.
select distinct connected.device_id from agent_connection as connected
where connected.gateway_id = $2
    or not exists (
        select from gateway
        where gateway.gateway_id = connected.gateway_id
            and gateway.heard_at >= clock_timestamp() - make_interval(secs => $1)
    )
limit 1000;

-- name: lock_agents
-- Presence: what is told of a device is told by one gateway after the other. Primary key.
select device_id from agent where device_id = any ($1::text[]) order by device_id for update;

-- name: save_connections
-- Presence, after lock_agents: devices $2 are connected to gateway $1. Primary key.
insert into agent_connection (device_id, gateway_id)
select device_id, $1 from unnest($2::text[]) as device_id
order by device_id
on conflict (device_id, gateway_id) do nothing;

-- name: drop_connections
-- Presence, after lock_agents: devices $2 that are not connected here ($1) any more, and whatever a dead gateway
-- has left of devices $3. $4 as in `gateways`. Primary key.
delete from agent_connection
where gateway_id = $1 and device_id = any ($2::text[])
    or device_id = any ($3::text[]) and not exists (
        select from gateway
        where gateway.gateway_id = agent_connection.gateway_id
            and gateway.heard_at >= clock_timestamp() - make_interval(secs => $4)
    );

-- name: presence
-- Presence, after the two above: what is so now, and the time by the one clock that all gateways have. `enrolled`
-- false: it has no agent any more. `gateway_id` null: it is connected to none. Primary keys.
select wanted.device_id, agent.device_id is not null as enrolled, clock_timestamp() as now,
    (
        select connected.gateway_id from agent_connection as connected
        where connected.device_id = wanted.device_id
        order by connected.gateway_id = $2 desc
        limit 1
    ) as gateway_id
from unnest($1::text[]) as wanted (device_id)
left join agent on agent.device_id = wanted.device_id;
