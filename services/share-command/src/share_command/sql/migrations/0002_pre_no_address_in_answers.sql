-- Answers of before name a recipient, and what was wrong with his address; from now on none does.
update command
set result = jsonb_set(result #- '{refused,details,recipient}', '{refused,message}', 'null')
where result -> 'refused' ->> 'code' = 'INVALID_EMAIL';
update command
set result = result #- '{refused,details,recipient}'
where result -> 'refused' -> 'details' ? 'recipient';
comment on column command.result is 'The answer given; a recipient is stored as his place in the command.';
