-- Ends, editing, messages, remarks, phone numbers, rules of recipients. Each column has a default, so that
-- processes that do not know it yet go on.

alter table share
    add column version bigint not null default 0,
    add column told_at timestamptz not null default now(),
    add column expires_at timestamptz,
    add column due_at timestamptz,
    add column message text,
    drop constraint a_share_has_a_known_state,
    add constraint a_share_has_a_known_state check (
        state in ('requested', 'active', 'rejected', 'revoked', 'left', 'expired')
    ),
    add constraint only_live_shares_are_due check (due_at is null or state in ('requested', 'active')),
    add constraint a_message_is_short check (length(message) <= 500);
comment on column share.version is 'Version of its last event in the device''s stream: what an edit must have seen.';
comment on column share.due_at is 'When time ends it: the end of its terms, or of an invitation nobody accepted.';
comment on column share.message is 'The owner''s words to the recipient, in no event; personal data.';

update share set version = last.version
from (select share_id, max(version) as version from event group by share_id) as last
where last.share_id = share.share_id;

create index share_due on share (due_at) where due_at is not null;
create index share_given on share (owner_account_id, contact_id) where state in ('requested', 'active');
create index share_accepted on share (account_id) where state in ('requested', 'active');

alter table device_service add column permissions text[];
comment on column device_service.permissions is
    'What the service supports; null until the device''s next snapshot after this column was made.';

alter table contact_book
    add column remark text,
    add constraint a_remark_is_short check (length(remark) <= 200);
comment on column contact_book.remark is 'The owner''s private note on the contact, for him alone; personal data.';

create table deleted_account (
    account_id text not null,
    constraint an_account_is_deleted_once primary key (account_id)
);
comment on table deleted_account is
    'Accounts that the registry has deleted, by their opaque ids: what still comes in their name is refused.';

create table always_accept (
    owner_account_id text not null,
    account_id text not null,
    since timestamptz not null,
    constraint a_rule_is_made_once primary key (owner_account_id, account_id),
    constraint a_rule_goes_with_its_account foreign key (account_id) references account on delete cascade
);
create index always_accept_by_account on always_accept (account_id);
comment on table always_accept is 'Recipients (account_id) that accept whatever an owner shares with them.';
