-- Statements of the verb `erase`, and of the relay's heartbeat of directory.contacts. Seldom used: none has an index of
-- its own.

-- name: contact_of
-- erase. Unique address. No new share with it is under way until the transaction ends.
select contact_id from contact where address = $1 for update

-- name: devices_shared_with
-- erase. Sequential over share.
select distinct device_id from share
where contact_id = $1 and state in ('requested', 'active')
order by device_id

-- name: forget_words
-- erase: what owners wrote to the person. Sequential over share.
update share set message = null where contact_id = $1 and message is not null

-- name: forget_from_books
-- erase: the contact and the remarks on it, in all books. Sequential over contact_book.
delete from contact_book where contact_id = $1 returning owner_account_id

-- name: erase_address
-- erase. Primary key of contact. What stands there afterwards is no address that anybody could verify.
update contact set address = 'erased:' || contact_id where contact_id = $1

-- name: append_tombstones
-- erase, and the heartbeat. Appends.
insert into outbox (topic, key, value) select $1, key, null from unnest($2::text[]) as key
