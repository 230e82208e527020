-- The services' roles and schemas in one database. Run it with psql as a superuser, connected to that
-- database; it may be run again at any time (it sets the passwords anew). Passwords come from the environment:
-- LATCHKEY_PASSWORD_SHARE_COMMAND, LATCHKEY_PASSWORD_PERMISSION_PROJECTOR, LATCHKEY_PASSWORD_NOTIFIER,
-- LATCHKEY_PASSWORD_ACCESS_GATEWAY, LATCHKEY_PASSWORD_PORTAL.
--
-- Each service owns the schema of its own name and sees nobody else's tables. What the projector offers to
-- others are the functions of permissions_api, to members of permissions_reader.

\getenv share_command_password LATCHKEY_PASSWORD_SHARE_COMMAND
\getenv permission_projector_password LATCHKEY_PASSWORD_PERMISSION_PROJECTOR
\getenv notifier_password LATCHKEY_PASSWORD_NOTIFIER
\getenv access_gateway_password LATCHKEY_PASSWORD_ACCESS_GATEWAY
\getenv portal_password LATCHKEY_PASSWORD_PORTAL

begin;

-- Two installations on one server may run this at once, and roles are shared between databases. So is the lock
-- on their table; an advisory lock would be of one database only.
lock table pg_authid in share row exclusive mode;

select format('create role %I', name)
from unnest(array[
    'share_command', 'permission_projector', 'notifier', 'access_gateway', 'portal', 'permissions_reader'
]) as name
where not exists (select from pg_roles where rolname = name)
\gexec

alter role share_command login nosuperuser nocreatedb nocreaterole password :'share_command_password';
alter role permission_projector login nosuperuser nocreatedb nocreaterole password :'permission_projector_password';
alter role notifier login nosuperuser nocreatedb nocreaterole password :'notifier_password';
alter role access_gateway login nosuperuser nocreatedb nocreaterole password :'access_gateway_password';
alter role portal login nosuperuser nocreatedb nocreaterole password :'portal_password';
alter role permissions_reader nologin;

alter role share_command set search_path = share_command;
alter role permission_projector set search_path = permission_projector;
alter role notifier set search_path = notifier;
alter role access_gateway set search_path = access_gateway;
alter role portal set search_path = portal;

select format('revoke all on database %I from public', current_database()) \gexec
select format(
    'grant connect, temporary on database %I to share_command, permission_projector, notifier, access_gateway, portal',
    current_database()
) \gexec
-- The projector makes a schema for each generation of its tables: `permissions` is the live one, permissions_2, …
-- are those being built or gone.
select format('grant create on database %I to permission_projector', current_database()) \gexec
revoke all on schema public from public;

create schema if not exists share_command authorization share_command;
create schema if not exists permission_projector authorization permission_projector;
create schema if not exists notifier authorization notifier;
create schema if not exists access_gateway authorization access_gateway;
create schema if not exists portal authorization portal;
create schema if not exists permissions_api authorization permission_projector;

comment on schema share_command is 'State of every share, the event log, the outbox, the contact book.';
comment on schema permission_projector is 'Bookkeeping of the projector; its read models are in permissions.';
comment on schema notifier is 'Notices: what was planned and what was sent.';
comment on schema access_gateway is 'The gateway''s own bookkeeping.';
comment on schema portal is 'Sign-in sessions.';
comment on schema permissions_api is 'The versioned functions through which others read permissions.';

-- A function is callable by everyone unless told otherwise: deny, and let the owner grant.
alter default privileges for role permission_projector revoke execute on functions from public;
grant usage on schema permissions_api to permissions_reader;
grant permissions_reader to access_gateway;

commit;
