-- name: inbox_page
-- inbox. Indexes notice_of_account, contact_by_address and notice_of_contact: a page costs the page. What a contact
-- was told is shown to who has verified its address, as long as it may still be accepted or when he accepted it:
-- addresses, and above all telephone numbers, pass from one person to another. Of a share that is over for the reader,
-- or is another owner's or recipient's by now, he is told no more than what was: it keeps its id.
with
    mine as (select contact_id from contact where address in (select unnest(addresses) from account where account_id = $1)),
    entry as (
        (
            select n.*
            from notice as n
            where n.account_id = $1
                and ($2::timestamptz is null or (n.created_at, n.notice_id) < ($2, $3::uuid))
                and (not $5 or n.read_at is null) and ($6 or n.later_until is null or n.later_until <= now())
            order by n.created_at desc, n.notice_id desc
            limit $4
        )
        union all
        (
            select n.*
            from notice as n
            join invitation as i using (share_id)
            where n.account_id is null and n.contact_id in (select contact_id from mine)
                and (i.state = 'requested' or i.account_id = $1)
                and ($2::timestamptz is null or (n.created_at, n.notice_id) < ($2, $3::uuid))
                and (not $5 or n.read_at is null) and ($6 or n.later_until is null or n.later_until <= now())
            order by n.created_at desc, n.notice_id desc
            limit $4
        )
    )
select
    n.notice_id, n.template, n.share_id, n.device_id, n.created_at, n.event_time, n.read_at, n.later_until,
    n.operation, n.owner_account_id, n.account_id is not distinct from n.owner_account_id as to_sharer,
    case when share.same and i.state <> 'ended' then coalesce(d.name, n.device_name) else n.device_name end as device_name,
    owner.name as owner_name, c.address,
    case when share.same then i.state else 'ended' end as state, i.invitation_version,
    case when share.same then i.expires_at end as expires_at, i.terms,
    share.same and i.state = 'requested' and coalesce(i.expires_at > now(), true) as open
from entry as n
join invitation as i using (share_id)
cross join lateral (
    select i.owner_account_id = n.owner_account_id
        and coalesce(n.account_id in (n.owner_account_id, i.account_id), n.account_id is null) as same
) as share
left join device as d on d.device_id = n.device_id
left join account as owner on owner.account_id = n.owner_account_id
left join contact as c on c.contact_id = n.contact_id
order by n.created_at desc, n.notice_id desc
limit $4

-- name: unread
-- inbox, as inbox_page; counts to 100 at most.
with mine as (select contact_id from contact where address in (select unnest(addresses) from account where account_id = $1))
select count(*)
from (
    select 1
    from notice as n
    join invitation as i using (share_id)
    where (
            n.account_id = $1
            or (
                n.account_id is null and n.contact_id in (select contact_id from mine)
                and (i.state = 'requested' or i.account_id = $1)
            )
        )
        and n.read_at is null and (n.later_until is null or n.later_until <= now())
    limit 100
) as counted

-- name: mark
-- inbox: one's own notices only, as inbox_page; to whom they were told. Primary key of notice.
update notice as n
set read_at = case $3 when 'read' then coalesce(n.read_at, now()) when 'unread' then null else n.read_at end,
    later_until = case $3 when 'later' then $4::timestamptz else null end
from invitation as i
where n.notice_id = any($2::uuid[]) and i.share_id = n.share_id
    and (
        n.account_id = $1
        or (
            n.account_id is null and (i.state = 'requested' or i.account_id = $1)
            and n.contact_id in (
                select contact_id
                from contact
                where address in (select unnest(addresses) from account where account_id = $1)
            )
        )
    )
returning n.account_id, n.contact_id

-- name: concerned
-- changes: who of those that follow ($1) has verified the address of contacts ($2), gives or has accepted live shares
-- of devices ($3), or may accept them. Primary key of contact, account_by_address, invitation_of_device.
with
    live as (
        select i.owner_account_id, i.account_id, i.contact_id, i.state
        from unnest($3::text[]) as named (device_id)
        join invitation as i on i.device_id = named.device_id and i.state <> 'ended'
    ),
    addressed as (
        select named.contact_id from unnest($2::uuid[]) as named (contact_id)
        union
        select live.contact_id from live where live.state = 'requested'
    )
select each.account_id
from (
    select owner_account_id as account_id from live
    union
    select account_id from live
    union
    -- "offset 0": else all accounts are read until one has the address
    select person.account_id
    from addressed
    join contact using (contact_id)
    cross join lateral (
        select account.account_id from account where account.addresses @> array[contact.address] offset 0
    ) as person
) as each
where each.account_id = any ($1::text[])

-- name: tell
-- inbox: told to those who follow when the transaction commits (hints.py).
select pg_notify('notifier_changed', hint.payload) from unnest($1::text[]) as hint (payload)

-- name: settings
-- inbox. Primary key of account_setting.
select language, time_zone, quiet_from, quiet_until from account_setting where account_id = $1

-- name: save_settings
-- inbox. Primary key of account_setting.
insert into account_setting (account_id, language, time_zone, quiet_from, quiet_until) values ($1, $2, $3, $4, $5)
on conflict (account_id) do update set
    language = excluded.language, time_zone = excluded.time_zone, quiet_from = excluded.quiet_from,
    quiet_until = excluded.quiet_until

-- name: preferences
-- inbox. Primary key of preference.
select template, channel, wanted from preference where reader = $1

-- name: save_preferences
-- inbox, and whoever turns mails off by their link. Primary key of preference.
insert into preference (reader, template, channel, wanted)
select $1, chosen.* from unnest($2::text[], $3::text[], $4::boolean[]) as chosen
on conflict (reader, template, channel) do update set wanted = excluded.wanted

-- name: subscriptions
-- inbox. Index subscription_of_account.
select subscription_id, channel, endpoint, created_at from push_subscription where account_id = $1 order by created_at

-- name: add_subscription
-- inbox: the same endpoint again is the same subscription, now of who says it last. Unique
-- an_endpoint_belongs_to_one_account.
insert into push_subscription (subscription_id, account_id, channel, endpoint, public_key, auth_secret)
values ($1, $2, $3, $4, $5, $6)
on conflict on constraint an_endpoint_belongs_to_one_account do update set
    account_id = excluded.account_id, public_key = excluded.public_key, auth_secret = excluded.auth_secret,
    refusals = 0
returning subscription_id

-- name: trim_subscriptions
-- inbox: of an account's, the newest $2 stay. Index subscription_of_account.
delete from push_subscription
where subscription_id in (
    select subscription_id from push_subscription where account_id = $1 order by created_at desc offset $2
)

-- name: remove_subscription
-- inbox. Primary key of push_subscription.
delete from push_subscription where account_id = $1 and subscription_id = $2

-- name: is_deleted
-- Every request of an account that was not looked at for seconds; Inboxes, before it keeps something of one. Primary
-- key of deleted_account.
select exists (select from deleted_account where account_id = $1)

-- name: lock_account
-- Inboxes, before `is_deleted`: what is kept of an account is not kept beside its deletion. No table.
select pg_advisory_xact_lock_shared(hashtextextended('account ' || $1, 0))
