-- A table of each session that projects: rows go into it by COPY, and from it into the tables in one statement.
-- That takes half the processor time of arrays as parameters.
create temporary table if not exists arrived (
    device_id text,
    version bigint,
    event_id uuid,
    share_id uuid,
    kind text,
    at timestamptz,
    state text,
    account_id text,
    owner_account_id text,
    contact_id uuid,
    terms jsonb,
    brings_terms boolean,
    reason text,
    correlation_id text,
    invitation_version bigint,
    requested_at timestamptz,
    since timestamptz,
    expires_at timestamptz,
    is_last boolean
) on commit delete rows
