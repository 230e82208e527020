-- Whoever follows his inbox is told when a device that it names has another name.
create index invitation_of_device on invitation (device_id) where state <> 'ended';
