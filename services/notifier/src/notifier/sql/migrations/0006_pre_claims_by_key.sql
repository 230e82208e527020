-- A claim that was planned while the table was small read all that was due, for each of those it might take: its
-- cost grew with the backlog. Now rows are sought by key: arrays are no joins, and "finished_at is null", which is
-- state = 'due', leaves no other index than that of the key.

create or replace function claim_deliveries(
    of_channel text, new_claim uuid, most int, busy_lanes text[], busy_workers int[], lane_most int,
    duration interval
)
returns table (delivery_id uuid, pair text, target text, lane text)
language plpgsql
as $$
begin
    -- One at a time: two that claim at once could each get a part of what belongs together.
    perform pg_advisory_xact_lock(hashtext('notifier claims'), hashtext(of_channel));
    return query
        with
            busy as materialized (
                select * from unnest(busy_lanes, busy_workers) as busy (lane, workers)
            ),
            waiting as materialized (
                select d.delivery_id, d.lane, d.due_at
                from delivery as d
                where d.state = 'due' and d.channel = of_channel and d.due_at <= now()
                    and d.lane not in (select busy.lane from busy where busy.workers >= lane_most)
                order by d.due_at
                limit most * 4
            ),
            ranked as materialized (
                select w.delivery_id, w.lane,
                    row_number() over (partition by w.lane order by w.due_at)
                        + coalesce((select busy.workers from busy where busy.lane = w.lane), 0) as place
                from waiting as w
            ),
            first as materialized (
                select d.delivery_id, d.pair, d.target
                from delivery as d
                where d.finished_at is null and d.due_at <= now()
                    and d.delivery_id = any (
                        array(select r.delivery_id from ranked as r where r.lane = '' or r.place <= lane_most)
                    )
                order by d.due_at
                limit most
                for update skip locked
            ),
            others as materialized (
                select d.delivery_id
                from delivery as d
                where d.pair = any (array(select first.pair from first where first.pair <> ''))
                    and d.channel = of_channel and d.finished_at is null
                    and (d.claim is null or d.due_at <= now())
                    and (d.pair, d.target) in (select first.pair, first.target from first)
                    and d.delivery_id not in (select first.delivery_id from first)
                order by d.created_at
                limit 1000
                for update skip locked
            )
        update delivery as d
        set claim = new_claim, due_at = now() + duration
        where d.delivery_id = any (
            array(select first.delivery_id from first union all select others.delivery_id from others)
        )
        returning d.delivery_id, d.pair, d.target, d.lane;
end
$$;
