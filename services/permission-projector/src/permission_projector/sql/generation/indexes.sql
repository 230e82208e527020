-- Constraints and indexes of one generation, made when a rebuild has written its rows.

alter table kafka_offset add constraint a_partition_has_one_offset primary key (topic, partition);

alter table share_event add constraint a_version_is_one_event primary key (device_id, version);
-- What happened to the shares that somebody gave, and to those that he had accepted.
create index share_event_by_owner on share_event (owner_account_id, at, event_id);
create index share_event_by_account on share_event (account_id, at, event_id) where account_id is not null;

alter table stream_quarantine add constraint a_stream_is_quarantined_once primary key (device_id);

alter table share add constraint a_share_is_one_row primary key (device_id, share_id);
create index share_by_account on share (account_id, device_id) where account_id is not null;
create index share_by_contact on share (contact_id);
-- The history of an owner. Neither column ever changes, so that it costs nothing when a share does.
create index share_by_owner on share (owner_account_id, share_id);

alter table device add constraint a_device_is_one_row primary key (device_id);
-- An owner's devices in the order of their names; the registry bounds a name by nothing, an index entry is bounded.
create index device_by_owner on device (owner_account_id, "left"(lower(name), 100), device_id);

alter table service add constraint a_service_is_once_on_a_device primary key (device_id, service_id);
create index service_by_id on service (service_id);

alter table device_quarantine add constraint a_device_is_quarantined_once primary key (device_id);

alter table account add constraint an_account_is_one_row primary key (account_id);
alter table account_address add constraint an_address_is_once_an_accounts primary key (account_id, address);
create index account_address_by_address on account_address (address);

alter table contact add constraint a_contact_is_one_row primary key (contact_id);
create index contact_by_address on contact (address);

alter table watermark add constraint a_watermark_is_one_row primary key (watermark_offset);
create index watermark_by_time on watermark (as_of);

alter table change add constraint a_change_is_one_row primary key (id);
create index change_of_devices on change (id) where cardinality(device_ids) > 0;
