-- What the live read models have forgotten of people must not stay in the generation before them, which is kept to go
-- back to. It catches up before it is live again, so that nothing is missing then: of a topic that it has not read
-- further than the live one, what the live one does not have any more, it will not have either.
create function permission_projector.forget_elsewhere(address_topics text[])
returns bigint
language plpgsql
as $$
declare
    other text;
    ahead boolean;
    gone bigint;
    total bigint := 0;
begin
    for other in
        select nspname from pg_namespace where nspname ~ '^permissions_[0-9]+$' order by nspname
    loop
        execute format(
            'select exists (
                select from %1$I.kafka_offset as theirs
                left join permissions.kafka_offset as ours using (topic, partition)
                where theirs.topic = any ($1) and theirs.next_offset > coalesce(ours.next_offset, 0)
            )',
            other
        ) into ahead using address_topics;
        continue when ahead;
        execute format(
            'delete from %1$I.account_address as theirs
            where not exists (
                select from permissions.account_address as ours
                where ours.account_id = theirs.account_id and ours.address = theirs.address
            )',
            other
        );
        get diagnostics gone = row_count;
        total := total + gone;
        execute format(
            'delete from %1$I.account as theirs
            where not exists (select from permissions.account as ours where ours.account_id = theirs.account_id)',
            other
        );
        execute format(
            'delete from %1$I.contact as theirs
            where not exists (select from permissions.contact as ours where ours.contact_id = theirs.contact_id)',
            other
        );
        get diagnostics gone = row_count;
        total := total + gone;
    end loop;
    return total;
end
$$;
comment on function permission_projector.forget_elsewhere is
    'Deletes addresses and names that the live read models do not have from generations kept beside them.';
revoke all on function permission_projector.forget_elsewhere from public;
