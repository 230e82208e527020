-- Invitations that can be accepted for a while only: what is told of them ends then too.
alter table invitation add column expires_at timestamptz;
comment on column invitation.expires_at is 'Until when it can be accepted; null: it has no end.';
