-- Whoever writes into the live generation takes his turn, and says which shape of the tables he writes: a projector of
-- another release must not write into them after a swap, also when nobody has stopped it.
create function permission_projector.take_turn(known_shape text)
returns void
language plpgsql
as $$
begin
    perform pg_advisory_xact_lock_shared(32330);
    -- A statement of its own, after the wait: it sees the generation that a swap has put in place meanwhile.
    if not exists (select from permissions.generation where generation.shape = take_turn.known_shape) then
        raise exception 'The live read models are of another release: stop this one and start that.'
            using errcode = 'object_not_in_prerequisite_state';
    end if;
end
$$;
comment on function permission_projector.take_turn is
    'First in every transaction that writes into the live generation: waits for a swap, and refuses another shape.';
revoke all on function permission_projector.take_turn from public;
