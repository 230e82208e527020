-- A contact that is erased is deleted in directory.contacts too: by a message without a value.
alter table outbox alter column value drop not null;
comment on column outbox.value is 'The message; null deletes the key of a compacted topic.';
comment on column contact.address is
    'Canonical address, or `erased:` and the contact id once it was erased: no event loses what it refers to.';
