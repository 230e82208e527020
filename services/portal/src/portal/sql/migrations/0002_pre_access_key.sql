create table access_key (
    key_id text constraint an_access_key_is_known_by_its_id primary key,
    account_id text not null,
    sealed_secret bytea not null,
    enabled boolean not null default true,
    created_at timestamptz not null default now(),
    last_used_at timestamptz,
    constraint a_key_id_is_20_letters_and_digits check (key_id ~ '^[A-Z0-9]{20}$'),
    constraint a_sealed_secret_has_nonce_secret_and_tag check (octet_length(sealed_secret) = 12 + 33 + 16)
);
comment on table access_key is
    'Keys with which scripts sign requests. The secret is encrypted by a key that the database does not have.';

create index access_key_account_id on access_key (account_id);
