-- Whoever keeps something of accounts without reading the registry's topic asks here which were deleted. Those that
-- were deleted before this column was made come first.
alter table deleted_account
    add column number bigint generated always as identity,
    add column there_again boolean not null default false,
    add constraint deletions_have_an_order unique (number);
comment on table deleted_account is
    'Accounts that the registry has deleted, by their opaque ids: what still comes in their name is refused, unless '
    'they are there again.';
comment on column deleted_account.number is
    'In the order of the commits: it grows whenever the account is deleted, or there again.';
