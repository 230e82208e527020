-- Every notice has a row of its own, which is also its row in the reader's inbox; what goes out of the house are
-- deliveries of it. What was planned before this is kept as it is.

alter table invitation add column account_id text;
alter table invitation add column notify boolean not null default true;
alter table invitation add column reminder_at timestamptz;
comment on column invitation.account_id is 'Who has accepted it; null for those that were accepted before this column was.';
comment on column invitation.notify is 'False: its owner wants nobody told outside the inbox.';
comment on column invitation.reminder_at is 'When its end is to be announced; null when there is nothing to announce.';
create index invitation_to_remind_of on invitation (reminder_at) where reminder_at is not null;

alter table account add column addresses text[] not null default '{}';
alter table account add column refused_at timestamptz;
comment on column account.addresses is
    'All its verified addresses in canonical form; filled when the directory says them the next time.';
comment on column account.refused_at is 'Since when mail to its first address is refused for good; null: it is not.';
update account set addresses = array(select 'mailto:' || lower(email) from unnest(verified_emails) as email);
create index account_by_address on account using gin (addresses);

alter table contact add column refused_at timestamptz;
comment on column contact.refused_at is 'Since when mail to it is refused for good; null: it is not.';
create index contact_by_address on contact (address);

create table notice (
    notice_id uuid constraint one_row_per_notice primary key,
    event_id uuid not null,
    reader text not null,
    contact_id uuid not null,
    account_id text,
    template text not null,
    share_id uuid not null constraint notice_is_about_a_known_invitation references invitation (share_id),
    device_id text not null,
    owner_account_id text not null,
    device_name text,
    version bigint not null,
    event_time timestamptz not null,
    outside boolean not null,
    operation text,
    correlation_id text not null,
    created_at timestamptz not null default now(),
    route_at timestamptz,
    waits int not null default 0,
    outcome text,
    code text,
    read_at timestamptz,
    later_until timestamptz,
    constraint one_notice_per_event_reader_template unique (event_id, reader, template),
    constraint a_notice_is_waiting_or_has_an_outcome check ((route_at is null) = (outcome is not null)),
    constraint notice_outcome_is_known check (outcome in ('routed', 'inbox', 'superseded', 'expired', 'failed'))
);
comment on table notice is
    'Each notice: the row in the inbox of its reader (an account, else whoever has verified the contact''s address). '
    'route_at: when it is looked at to be delivered; outcome: what came of that. No address, no text.';
comment on column notice.device_name is 'As it was when the notice was planned; shown when the device is gone.';
create index notice_to_route on notice (route_at) where route_at is not null;
create index notice_of_account on notice (account_id, created_at desc, notice_id desc) where account_id is not null;
create index notice_of_contact on notice (contact_id, created_at desc, notice_id desc) where account_id is null;
create index notice_of_share on notice (share_id);

insert into notice
    (
        notice_id, event_id, reader, contact_id, template, share_id, device_id, owner_account_id, version,
        event_time, outside, correlation_id, created_at, outcome
    )
select distinct on (d.event_id, d.contact_id, d.template)
    d.delivery_id, d.event_id, d.contact_id::text, d.contact_id, d.template, d.share_id, i.device_id,
    i.owner_account_id, d.version, d.event_time, true, d.correlation_id, d.created_at, 'routed'
from delivery as d
join invitation as i using (share_id);

alter table delivery add column notice_id uuid;
update delivery as d set notice_id = n.notice_id
from notice as n
where (n.event_id, n.contact_id, n.template) = (d.event_id, d.contact_id, d.template);
alter table delivery alter column notice_id set not null;
alter table delivery add constraint delivery_is_of_a_notice foreign key (notice_id)
    references notice (notice_id) on delete cascade;
alter table delivery add column target text not null default '';
alter table delivery add column pair text not null default '';
alter table delivery add column lane text not null default '';
alter table delivery drop constraint one_delivery_per_event_contact_channel_template;
alter table delivery add constraint one_delivery_per_notice_channel_target unique (notice_id, channel, target);
alter table delivery
    drop column event_id, drop column contact_id, drop column template, drop column share_id, drop column version,
    drop column event_time, drop column correlation_id, drop column waits;
comment on column delivery.target is 'A subscription of the reader; empty: his address.';
comment on column delivery.pair is 'Of whom and to whom: deliveries that have it in common may go out as one. Empty: alone.';
comment on column delivery.lane is 'What may be slow by itself (a digest of the domain); one lane cannot take every slot.';
drop index delivery_due;
create index delivery_due on delivery (channel, due_at) where state = 'due';
create index delivery_of_pair on delivery (pair, channel, created_at);

create table first_use (
    share_id uuid constraint one_first_use_per_share primary key,
    account_id text not null,
    event_id uuid not null,
    event_time timestamptz not null,
    told boolean not null
);
comment on table first_use is
    'The first connection by each share, from access.events. told: its owner was told, or it was too old to tell.';
insert into first_use (share_id, account_id, event_id, event_time, told)
select share_id, '', gen_random_uuid(), now(), true from invitation where state = 'accepted';

create table preference (
    reader text not null,
    template text not null,
    channel text not null,
    wanted boolean not null,
    constraint one_preference_per_reader_template_channel primary key (reader, template, channel)
);
comment on table preference is
    'What people chose: of an account, or of a contact without one, who can only turn off what he gets.';

create table account_setting (
    account_id text constraint one_setting_per_account primary key,
    language text,
    time_zone text,
    quiet_from time,
    quiet_until time,
    constraint quiet_hours_are_whole
        check ((quiet_from is null) = (quiet_until is null) and (quiet_from is null or time_zone is not null))
);
comment on table account_setting is 'Language, zone and quiet hours of an account.';

create table push_subscription (
    subscription_id uuid constraint one_row_per_subscription primary key,
    account_id text not null,
    channel text not null constraint subscription_channel_is_a_push check (channel in ('web_push', 'fcm')),
    endpoint text not null,
    public_key text not null,
    auth_secret text not null,
    created_at timestamptz not null default now(),
    refusals int not null default 0,
    constraint an_endpoint_belongs_to_one_account unique (channel, endpoint)
);
comment on table push_subscription is
    'Browsers (RFC 8030 endpoint with the keys of RFC 8291) and apps (FCM token in endpoint) of an account.';
create index subscription_of_account on push_subscription (account_id);

create function claim_deliveries(
    of_channel text, new_claim uuid, most int, full_lanes text[], duration interval
)
returns table (delivery_id uuid, pair text, target text, lane text)
language plpgsql
as $$
begin
    -- One at a time: two that claim at once could each get a part of what belongs together.
    perform pg_advisory_xact_lock(hashtext('notifier claims'), hashtext(of_channel));
    return query
        with
            first as materialized (
                select d.delivery_id, d.pair, d.target
                from delivery as d
                where d.state = 'due' and d.channel = of_channel and d.due_at <= now()
                    and not d.lane = any (full_lanes)
                order by d.due_at
                limit most
                for update skip locked
            ),
            others as materialized (
                select d.delivery_id
                from delivery as d
                where d.pair in (select first.pair from first where first.pair <> '')
                    and d.channel = of_channel and d.state = 'due' and (d.claim is null or d.due_at <= now())
                    and (d.pair, d.target) in (select first.pair, first.target from first)
                    and d.delivery_id not in (select first.delivery_id from first)
                order by d.created_at
                limit 1000
                for update skip locked
            )
        update delivery as d
        set claim = new_claim, due_at = now() + duration
        where d.delivery_id in (
            select first.delivery_id from first union all select others.delivery_id from others
        )
        returning d.delivery_id, d.pair, d.target, d.lane;
end
$$;
comment on function claim_deliveries is
    'Takes the deliveries of a channel that are due longest, and what goes together with each. Until due_at nobody '
    'else takes them. full_lanes have all the workers that they may have. Indexes delivery_due, delivery_of_pair.';
