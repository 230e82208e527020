-- Statements about generations as such (generation.py).

-- name: turn_alone
-- The swap, and the making of the first generation. Waits for all that have their turn (permission_projector.take_turn),
-- and holds up others.
select pg_advisory_xact_lock(32330)

-- name: live_exists
-- ensure_live. The catalogue.
select to_regnamespace('permissions') is not null

-- name: number_generation
-- create_tables. Appends the one row.
insert into generation (number, shape) values ($1, $2)

-- name: forget_elsewhere
-- consumer.Projector.forget. All accounts and contacts, by their primary keys; seldom, and only when there is another
-- generation.
select permission_projector.forget_elsewhere($1::text[])

-- name: live_generation
-- require_shape. One row.
select number, shape from permissions.generation
