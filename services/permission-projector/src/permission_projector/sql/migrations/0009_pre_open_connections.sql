-- Open connections are found by who has them and by their device, not among all that are open anywhere.
create index connection_open_by_account
    on permission_projector.connection (account_id, at desc, connection_id desc) where outcome = 'open';
create index connection_open_by_device
    on permission_projector.connection (device_id, at desc, connection_id desc) where outcome = 'open';
drop index permission_projector.connection_open;
