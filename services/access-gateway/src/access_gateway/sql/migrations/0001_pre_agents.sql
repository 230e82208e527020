-- Agents of devices behind a NAT. Of codes and keys only hashes are kept.

create table agent_code (
    device_id text constraint a_device_has_one_code primary key,
    selector text not null constraint a_selector_finds_one_code unique,
    secret_hash bytea not null constraint a_code_is_known_by_its_sha256 check (octet_length(secret_hash) = 32),
    owner_account_id text not null,
    expires_at timestamptz not null,
    tries_left integer not null constraint a_code_without_tries_is_deleted check (tries_left > 0),
    key_hash bytea
);
comment on table agent_code is
    'One-time codes with which an owner enrols an agent. A new code of a device takes the place of the old one.';
comment on column agent_code.key_hash is
    'The key that it was exchanged for: that key again gets the same answer, any other is refused.';
create index agent_code_expires_at on agent_code (expires_at);

create table agent (
    device_id text constraint a_device_has_one_agent primary key,
    owner_account_id text not null,
    key_hash bytea not null constraint a_key_is_known_by_its_sha256 check (octet_length(key_hash) = 32),
    enrolled_at timestamptz not null default now()
);
comment on table agent is
    'Devices that are reached through an agent only. The key is void once its device has another owner or is gone.';

create table gateway (
    gateway_id text constraint a_gateway_is_one_row primary key,
    agent_address text not null,
    heard_at timestamptz not null
) with (fillfactor = 50);
comment on table gateway is
    'Gateways to which agents can log in, and when each of them last said that it lives.';

create table agent_connection (
    device_id text not null,
    gateway_id text not null,
    constraint a_gateway_has_one_agent_of_a_device primary key (device_id, gateway_id)
);
comment on table agent_connection is
    'Which agents are logged in where: what directory.presence tells follows from it, over all gateways.';
