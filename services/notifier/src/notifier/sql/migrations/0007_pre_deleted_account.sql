create table deleted_account (
    account_id text constraint an_account_is_deleted_once primary key
);
comment on table deleted_account is
    'From directory.accounts: accounts that were deleted and are not there again, by their opaque ids. Nothing is kept '
    'for them.';
