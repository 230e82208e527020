create table deleted_account (
    account_id text constraint an_account_is_deleted_once primary key
);
comment on table deleted_account is
    'Accounts that the registry has deleted, as far as was heard, by their opaque ids: nobody comes in as one of them.';

create table deletions_heard (
    only_row boolean not null default true
        constraint there_is_one_place primary key
        constraint only_row_is_true check (only_row),
    number bigint not null default 0
);
comment on table deletions_heard is 'The last of share-command''s deletions that these tables know of.';
insert into deletions_heard default values;

create index session_account_id on session (account_id);
