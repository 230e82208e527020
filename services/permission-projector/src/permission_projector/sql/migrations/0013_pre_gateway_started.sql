-- A gateway that was killed could not tell of its connections that they ended. When it starts again it tells that, and
-- what it had opened before is told as closed from then on, in whatever order the news came. An end that was told
-- holds, also when it is found later.
alter table permission_projector.gateway add column started_at timestamptz;
comment on column permission_projector.gateway.started_at is
    'When it last began, by its own clock. Null: it has not told.';

create or replace view permission_projector.connection_status as
select
    connection.connection_id, connection.device_id, connection.service_id, connection.account_id, connection.share_id,
    connection.permission, connection.gateway_id, connection.opened_at,
    case when lost.it then gateway.started_at else connection.ended_at end as ended_at,
    case when lost.it then 'closed' else connection.outcome end as outcome,
    case when lost.it then 'gateway_started' else connection.reason end as reason,
    connection.bytes_to_device, connection.bytes_from_device, connection.seconds, connection.at,
    gateway.heard_at as gateway_heard_at,
    connection.outcome = 'open' and not lost.it and permission_projector.is_silent(gateway.heard_at) as in_doubt,
    connection.outcome = 'open' as without_end
from permission_projector.connection
left join permission_projector.gateway using (gateway_id)
cross join lateral (
    select connection.outcome = 'open' and coalesce(connection.opened_at < gateway.started_at, false) as it
) as lost;
comment on view permission_projector.connection_status is
    'Connections as they are to be told. in_doubt: it was open when its gateway was last heard of, and that is long ago.'
    ' without_end: nobody has told of an end; what is open has none, and is found by that.';
