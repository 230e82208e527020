create table device_alias (
    account_id text not null,
    device_id text not null,
    alias text not null,
    constraint an_account_has_one_alias_for_a_device primary key (account_id, device_id),
    constraint an_alias_says_something check (char_length(alias) between 1 and 120)
);
comment on table device_alias is
    'What an account calls a device that is shared with it. Nobody else gets to see it.';
