-- Who showed a contact code is in the book by name. The column is empty for all other contacts: whether an address
-- has an account is told to nobody.

alter table contact_book add column shown_by text;
comment on column contact_book.shown_by is
    'The account that showed its contact code to the owner, so that its name may stand in his book.';
