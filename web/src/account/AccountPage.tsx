import { useMutation, useQueryClient } from '@tanstack/react-query';
import { useState } from 'react';
import { useMe } from '../app';
import { AlwaysAccept } from '../generated';
import { INVITATIONS_KEY, useInvitations } from '../inbox/invitations';
import { ask } from '../lib/graphql';
import { moment } from '../lib/words';
import { Icon } from '../parts/Icon';
import { Problem } from '../parts/Notice';
import { useTitle } from '../parts/useTitle';
import { PushCard } from '../push/PushCard';
import { AccessKeysCard } from './AccessKeysCard';
import { NoticesCard } from './NoticesCard';
import { QrDialog } from './QrDialog';

export function AccountPage() {
  useTitle('Account');
  const { data: me, error } = useMe();
  const [showing, setShowing] = useState(false);
  return (
    <>
      <div className="page-head">
        <h1>Account</h1>
      </div>
      <section className="card">
        <div className="card-head">
          <div>
            <h2>
              <bdi>{me?.name ?? me?.email ?? '…'}</bdi>
            </h2>
            <p className="soft">
              <bdi>{me?.email}</bdi>
            </p>
          </div>
          <button type="button" onClick={() => setShowing(true)}>
            <Icon name="qr" /> My QR Code
          </button>
        </div>
        <Problem error={error} />
      </section>
      <PushCard />
      <NoticesCard />
      <AlwaysAcceptedCard />
      <AccessKeysCard />
      {showing && <QrDialog name={me?.name ?? me?.email ?? ''} onClose={() => setShowing(false)} />}
    </>
  );
}

function AlwaysAcceptedCard() {
  const client = useQueryClient();
  const inbox = useInvitations();
  const stop = useMutation({
    mutationFn: (owner: string) => ask(AlwaysAccept, { owner, always: false }),
    onSuccess: () => client.invalidateQueries({ queryKey: INVITATIONS_KEY }),
  });
  const owners = inbox.alwaysAccepted;
  return (
    <section className="card">
      <h2>Always accepted</h2>
      <p className="soft">
        {owners.length
          ? 'What these people share with you is accepted at once. What you have accepted stays, also when you stop this.'
          : 'You decide on each invitation. In an invitation you can choose to accept whatever its sharer shares.'}
      </p>
      <ul className="share-lines">
        {owners.map((owner) => (
          <li className="share-line" key={owner.ownerId}>
            <div className="share-words">
              <p>
                <bdi className="strong">{owner.name ?? owner.ownerId}</bdi>
              </p>
              <p className="soft">since {moment(owner.since)}</p>
            </div>
            <button
              type="button"
              className="small"
              aria-label={`Stop always accepting what ${owner.name ?? owner.ownerId} shares`}
              disabled={stop.isPending}
              onClick={() => stop.mutate(owner.ownerId)}
            >
              Stop
            </button>
          </li>
        ))}
      </ul>
      <Problem error={inbox.error ?? stop.error} />
    </section>
  );
}
