import { useMutation, useQueryClient } from '@tanstack/react-query';
import { useState } from 'react';
import { refreshDevices } from '../devices/devices';
import { Accept, AlwaysAccept, Reject } from '../generated';
import { ask, Refusal } from '../lib/graphql';
import { moment, periodInWords, permissionsInWords } from '../lib/words';
import { useAnnounce } from '../parts/Announcer';
import { Empty, Loading, Problem } from '../parts/Notice';
import { useTitle } from '../parts/useTitle';
import { type Invitation, INVITATIONS_KEY, useDecideLater, useInvitations } from './invitations';
import { NoticeList } from './NoticeList';
import { useAnswered } from './notices';

export function InboxPage() {
  useTitle('Inbox');
  const inbox = useInvitations();
  const all = inbox.isPending ? [] : inbox.invitations;
  const waiting = all.filter((item) => !item.later);
  const later = all.filter((item) => item.later);
  return (
    <>
      <div className="page-head">
        <h1>Inbox</h1>
        {waiting.length > 0 && <span className="count">{waiting.length}</span>}
      </div>
      <Problem error={inbox.error} />
      {inbox.isPending && <Loading what="your invitations" />}
      {!inbox.isPending && !inbox.error && !all.length && (
        <Empty title="Nothing waits for your answer">
          <p>When somebody shares a device with you, the invitation appears here at once.</p>
        </Empty>
      )}
      <ul className="cards" aria-label="Invitations">
        {waiting.map((item) => (
          <Card key={item.id} item={item} />
        ))}
      </ul>
      {later.length > 0 && (
        <>
          <h2>Decide later</h2>
          <ul className="cards" aria-label="Put off">
            {later.map((item) => (
              <Card key={item.id} item={item} />
            ))}
          </ul>
        </>
      )}
      <NoticeList />
    </>
  );
}

function Card({ item }: { item: Invitation }) {
  const client = useQueryClient();
  const announce = useAnnounce();
  const [always, setAlways] = useState(false);
  const answered = useAnswered();
  const { device, owner } = item;
  const who = owner.name ?? owner.email ?? 'Somebody';
  const answer = useMutation({
    mutationFn: async (accepts: boolean) => {
      const named = { device: device.id, share: item.id };
      if (accepts) await ask(Accept, { ...named, version: item.invitationVersion });
      else await ask(Reject, named);
      if (accepts && always) await ask(AlwaysAccept, { owner: owner.id, always });
    },
    onSuccess: async (_, accepts) => {
      announce(accepts ? `${device.name} is among your devices now.` : `Rejected: ${device.name}.`);
      await client.invalidateQueries({ queryKey: INVITATIONS_KEY });
      await Promise.all([answered(item.id), accepts ? refreshDevices(client, []) : undefined]);
    },
    onError: () => client.invalidateQueries({ queryKey: INVITATIONS_KEY }),
  });
  const later = useDecideLater();
  const busy = answer.isPending || later.isPending;
  const changed = answer.error instanceof Refusal && answer.error.code === 'CONFLICT';
  const period = periodInWords(item.startsAt, item.endsAt);
  return (
    <li className="card">
      <h2>
        <bdi>{device.name}</bdi>
      </h2>
      <p className="soft">
        from <bdi>{who}</bdi>
        {owner.name && owner.email && (
          <>
            {' '}
            (<bdi>{owner.email}</bdi>)
          </>
        )}
      </p>
      {item.message && (
        <figure className="message">
          <figcaption>
            <bdi>{who}</bdi> writes:
          </figcaption>
          <blockquote dir="auto">{item.message}</blockquote>
        </figure>
      )}
      <ul className="terms">
        {item.services === null ? (
          <li>
            Every service of this device, and those added later
            <span className="soft"> · {permissionsInWords(item.permissions)}</span>
          </li>
        ) : (
          item.services.map((service) => (
            <li key={service.id}>
              <bdi>{service.name ?? service.id}</bdi>
              <span className="soft"> · {permissionsInWords(service.permissions)}</span>
            </li>
          ))
        )}
        {item.scripting && <li>May run scripts</li>}
        {period && <li>{period.charAt(0).toUpperCase() + period.slice(1)}</li>}
      </ul>
      <label className="tick">
        <input type="checkbox" checked={always} onChange={(event) => setAlways(event.target.checked)} />
        <span>Always accept what {who} shares with me</span>
      </label>
      {changed ? (
        <p className="problem" role="alert">
          {who} has changed the invitation meanwhile. Nothing was accepted; above is how it stands now.
        </p>
      ) : (
        <Problem error={answer.error ?? later.error} />
      )}
      <div className="card-actions">
        <button
          type="button"
          className="primary"
          aria-label={`Accept ${device.name}`}
          disabled={busy}
          onClick={() => answer.mutate(true)}
        >
          Accept
        </button>
        <button
          type="button"
          aria-label={`Reject ${device.name}`}
          disabled={busy}
          onClick={() => answer.mutate(false)}
        >
          Reject
        </button>
        {!item.later && (
          <button
            type="button"
            className="quiet"
            aria-label={`Decide later on ${device.name}`}
            disabled={busy}
            onClick={() => later.mutate(item)}
          >
            Later
          </button>
        )}
      </div>
      {item.expiresAt && <p className="soft small-words">You can accept until {moment(item.expiresAt)}.</p>}
    </li>
  );
}
