-- name: create_session
-- Called by Sessions.create once a sign-in. Needs the primary key.
insert into session (id_hash, account_id, expires_at) values ($1, $2, now() + $3::interval);

-- name: forget_expired_sessions
-- Called by Sessions.create, so that the table stays as small as its use. Needs session_expires_at.
delete from session where expires_at <= now();

-- name: find_session
-- Called by Sessions.account_of for every page. Needs the primary key.
select account_id from session where id_hash = $1 and expires_at > now();

-- name: end_session
-- Called by Sessions.end. Needs the primary key.
delete from session where id_hash = $1;

-- name: lock_account
-- Called before something is kept of an account, so that concurrent calls count one after another and none comes
-- beside its deletion; and by Deletions. No table.
select pg_advisory_xact_lock(hashtextextended('account ' || $1, 0));

-- name: count_access_keys
-- Called by AccessKeys.create and AccessKeys.set_enabled. Needs access_key_account_id.
select count(*) as total, count(*) filter (where enabled) as enabled from access_key where account_id = $1;

-- name: create_access_key
-- Called by AccessKeys.create. Needs the primary key.
insert into access_key (key_id, account_id, sealed_secret) values ($1, $2, $3);

-- name: list_access_keys
-- Called by AccessKeys.of. Needs access_key_account_id.
select key_id, enabled, created_at, last_used_at
from access_key
where account_id = $1
order by created_at, key_id;

-- name: find_access_key_of_account
-- Called by AccessKeys.set_enabled. Needs the primary key.
select enabled from access_key where key_id = $1 and account_id = $2;

-- name: set_access_key_enabled
-- Called by AccessKeys.set_enabled. Needs the primary key.
update access_key
set enabled = $3
where key_id = $1 and account_id = $2
returning key_id, enabled, created_at, last_used_at;

-- name: delete_access_key
-- Called by AccessKeys.delete. Needs the primary key.
delete from access_key where key_id = $1 and account_id = $2 returning true;

-- name: find_enabled_access_key
-- Called by AccessKeys.find for every signed request. Needs the primary key.
select account_id, sealed_secret,
    last_used_at is null or last_used_at < now() - interval '1 minute' as use_unrecorded
from access_key
where key_id = $1 and enabled;

-- name: record_use_of_access_key
-- Called by AccessKeys.record_use, for one key at most once a minute. Needs the primary key.
update access_key
set last_used_at = now()
where key_id = $1 and (last_used_at is null or last_used_at < now() - interval '1 minute');

-- name: list_device_aliases
-- Called by Aliases.of once for a request that asks for one. Needs the primary key.
select device_id, alias from device_alias where account_id = $1;

-- name: count_other_device_aliases
-- Called by Aliases.set. Needs the primary key.
select count(*) from device_alias where account_id = $1 and device_id <> $2;

-- name: set_device_alias
-- Called by Aliases.set. Needs the primary key.
insert into device_alias (account_id, device_id, alias) values ($1, $2, $3)
on conflict (account_id, device_id) do update set alias = excluded.alias;

-- name: forget_device_alias
-- Called by Aliases.forget. Needs the primary key.
delete from device_alias where account_id = $1 and device_id = $2;

-- name: tell_own_change
-- Called by OwnChanges.tell, to every process of the portal. No table.
select pg_notify('portal_changed', $1);

-- name: is_deleted
-- Called before something is kept of an account, after lock_account, and by Deletions for a token whose account was
-- not looked at for seconds. Needs the primary key.
select exists (select from deleted_account where account_id = $1);

-- name: deletions_heard
-- Called by Deletions every second. The one row.
select number from deletions_heard;

-- name: lock_deletions_heard
-- Called by Deletions before it forgets: of several processes one does. The one row.
select number from deletions_heard for update;

-- name: hear_deletions
-- Called by Deletions. The one row.
update deletions_heard set number = $1;

-- name: mark_deleted
-- Called by Deletions. Needs the primary key.
insert into deleted_account (account_id) select unnest($1::text[]) on conflict (account_id) do nothing;

-- name: unmark_deleted
-- Called by Deletions. Needs the primary key.
delete from deleted_account where account_id = any ($1::text[]);

-- name: forget_sessions_of
-- Called by Deletions. Needs session_account_id.
delete from session where account_id = any ($1::text[]);

-- name: forget_access_keys_of
-- Called by Deletions. Needs access_key_account_id.
delete from access_key where account_id = any ($1::text[]);

-- name: forget_device_aliases_of
-- Called by Deletions. Needs the primary key, by its first column.
delete from device_alias where account_id = any ($1::text[]);

-- name: tell_deleted
-- Called by Deletions, to every process of the portal. No table.
select pg_notify('portal_deleted', '');
