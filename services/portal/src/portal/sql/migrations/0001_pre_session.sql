create table session (
    id_hash bytea constraint a_session_is_known_by_the_hash_of_its_id primary key,
    account_id text not null,
    created_at timestamptz not null default now(),
    expires_at timestamptz not null,
    constraint an_id_hash_is_a_sha256 check (octet_length(id_hash) = 32),
    constraint a_session_ends_after_it_began check (expires_at > created_at)
);
comment on table session is
    'Sign-ins in browsers that have not ended. The id itself is in the browser''s cookie only.';

create index session_expires_at on session (expires_at);
