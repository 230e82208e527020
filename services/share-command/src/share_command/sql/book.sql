-- Statements about what is in no event: contact book, rules of recipients, and what people look at.

-- name: contact_book
-- GET /v1/contacts. Primary key of contact_book by its first column, primary key of account. $2: part of an address,
-- name or remark, or null.
select
    contact.contact_id, contact.address, account.name, contact_book.remark, contact_book.last_used_at
from contact_book
join contact on contact.contact_id = contact_book.contact_id
left join account on account.account_id = contact_book.shown_by
where contact_book.owner_account_id = $1
    and (
        $2::text is null
        or position(lower($2) in lower(contact.address)) > 0
        or position(lower($2) in lower(account.name)) > 0
        or position(lower($2) in lower(contact_book.remark)) > 0
    )
order by contact_book.last_used_at desc, contact.contact_id
limit $3

-- name: save_remark
-- Contact book. Primary key of contact_book.
update contact_book set remark = nullif($3, '')
where owner_account_id = $1 and contact_id = $2
returning contact_id

-- name: note_who_showed
-- Contact codes, when the contact is in the book. Primary key of contact_book.
update contact_book set shown_by = $3 where owner_account_id = $1 and contact_id = $2

-- name: first_address
-- Contact codes. Primary keys of account and account_address. E-mail comes before telephone numbers.
select account.name, account_address.address
from account
join account_address on account_address.account_id = account.account_id
where account.account_id = $1
order by account_address.address
limit 1

-- name: other_rules
-- PUT /v1/always-accept, before. Index always_accept_by_account.
select count(*) from always_accept where account_id = $2 and owner_account_id <> $1

-- name: always_accept
-- PUT /v1/always-accept. Primary key. Only for an account that is known; nothing otherwise.
insert into always_accept (owner_account_id, account_id, since)
select $1, account.account_id, $3 from account where account.account_id = $2
on conflict (owner_account_id, account_id) do nothing

-- name: never_accept
-- DELETE /v1/always-accept. Primary key.
delete from always_accept where owner_account_id = $1 and account_id = $2

-- name: accepting_from
-- GET /v1/always-accept. Index always_accept_by_account. The name of an owner only for whom he has shared with:
-- whether there is an account is not told.
select
    always_accept.owner_account_id, always_accept.since,
    case when exists (
        select from share
        where share.owner_account_id = always_accept.owner_account_id and share.account_id = $1
    ) then account.name end as name
from always_accept
left join account on account.account_id = always_accept.owner_account_id
where always_accept.account_id = $1
order by always_accept.owner_account_id

-- name: given_shares
-- GET /v1/shares: live shares of a device, for its owner. Unique (device_id, contact_id).
select
    share.share_id, share.contact_id, contact.address, contact_book.remark, share.state, share.terms,
    share.version, share.invitation_version, share.expires_at, share.message, share.account_id
from share
join device on device.device_id = share.device_id and device.owner_account_id = share.owner_account_id
join contact on contact.contact_id = share.contact_id
left join contact_book
    on contact_book.owner_account_id = share.owner_account_id and contact_book.contact_id = share.contact_id
where share.device_id = $2 and share.owner_account_id = $1 and share.state in ('requested', 'active')
order by contact.address

-- name: messages
-- POST /v1/messages: the words of live shares, for their owner or recipient. Primary key.
select share.share_id, share.message
from share
join contact on contact.contact_id = share.contact_id
where share.share_id = any($2::uuid[]) and share.state in ('requested', 'active')
    and share.message is not null
    and (
        share.owner_account_id = $1
        or share.account_id = $1
        or share.account_id is null and exists (
            select from account_address
            where account_address.account_id = $1 and account_address.address = contact.address
        )
    )

-- name: invitation
-- POST /v1/invitation-links. Primary keys, and that of account_address: a row only for who may see it, while
-- the device is still whose it was. Names of the device and its services only while the share is open.
select
    share.share_id, share.device_id, account.name as owner_name, share.state, share.invitation_version,
    share.terms, share.expires_at,
    case when share.state in ('requested', 'active') then share.message end as message,
    case when share.state in ('requested', 'active') then device.name else share.device_id end as device_name,
    (
        select coalesce(jsonb_object_agg(device_service.service_id, device_service.name), '{}')
        from device_service
        where device_service.device_id = share.device_id
            and share.state in ('requested', 'active')
            and share.terms -> 'scope' -> 'services' ? device_service.service_id
    ) as service_names
from share
join contact on contact.contact_id = share.contact_id
join account_address
    on account_address.account_id = $4 and account_address.address = contact.address
join device on device.device_id = share.device_id and device.owner_account_id = share.owner_account_id
left join account on account.account_id = share.owner_account_id
where share.share_id = $1 and share.device_id = $2 and share.contact_id = $3
    and (share.account_id is null or share.account_id = $4)
