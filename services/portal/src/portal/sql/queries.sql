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
