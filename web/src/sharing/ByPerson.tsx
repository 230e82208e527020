import { useMutation, useQueryClient } from '@tanstack/react-query';
import { useState } from 'react';
import { Link } from 'wouter';
import { useDevices } from '../devices/devices';
import { SetRemark } from '../generated';
import { ask } from '../lib/graphql';
import { count } from '../lib/words';
import { Avatar } from '../parts/Avatar';
import { Icon } from '../parts/Icon';
import { Empty, Loading, Problem } from '../parts/Notice';
import { addressOf, type Contact, CONTACTS_KEY, useContacts } from '../share/contacts';
import { EndedLine } from './EndedLine';
import { type PastShare, type Person, peopleOf, usePastShares } from './given';
import { RemoveRecipientDialog } from './RemoveRecipientDialog';
import { RenewDialog } from './RenewDialog';
import { ShareLine } from './ShareLine';

const SHOWN_OPEN = 5; // shares, beyond which a person is folded up at first

/** Everybody with whom the caller shares, or has shared, something. */
export function ByPerson() {
  const { shares, error, isPending } = usePastShares(true);
  const contacts = useContacts();
  const [words, setWords] = useState('');
  const people = peopleOf(shares);
  const wanted = words.trim().toLocaleLowerCase();
  const shown = people.filter((person) => `${person.address} ${person.name}`.toLocaleLowerCase().includes(wanted));
  return (
    <>
      <Problem error={error} />
      {isPending && <Loading what="your shares" />}
      {!isPending && !people.length && !error && (
        <Empty title="You share nothing with anybody">
          <p>
            Select devices on the <Link href="/">Devices</Link> page and choose Actions, Share.
          </p>
        </Empty>
      )}
      {people.length > 5 && (
        <div className="toolbar" role="search">
          <label className="search">
            <Icon name="search" />
            <span className="hidden-words">Search people</span>
            <input
              type="search"
              placeholder="Search by name or address"
              value={words}
              onChange={(event) => setWords(event.target.value)}
            />
          </label>
        </div>
      )}
      <ul className="people" aria-label="People">
        {shown.map((person) => (
          <PersonCard
            key={person.address}
            person={person}
            contact={contacts.data?.find((contact) => addressOf(contact) === person.address)}
          />
        ))}
      </ul>
    </>
  );
}

function PersonCard({ person, contact }: { person: Person; contact: Contact | undefined }) {
  const devices = useDevices();
  const [removing, setRemoving] = useState(false);
  const [renewing, setRenewing] = useState<PastShare>();
  const [open, setOpen] = useState(person.live.length > 0 && person.live.length <= SHOWN_OPEN);
  const name = person.name ?? contact?.name ?? person.address;
  return (
    <li className="card person">
      <details open={open} onToggle={(event) => setOpen(event.currentTarget.open)}>
        <summary>
          <Avatar name={name} />
          <span className="contact-words">
            <bdi className="strong">{name}</bdi>
            <small className="one-line">
              {[name === person.address ? '' : person.address, contact?.remark].filter(Boolean).join(' · ')}
            </small>
          </span>
          <span className="soft">{person.live.length ? count(person.live.length, 'device') : 'nothing now'}</span>
        </summary>
        <ul className="share-lines">
          {person.live.map((share) => (
            <ShareLine
              key={share.id}
              share={{ ...share, address: person.address }}
              device={devices.data?.find((device) => device.id === share.deviceId)}
              titleWords={`${share.deviceName ?? share.deviceId} with ${name}`}
              title={
                <Link href={`/devices/${encodeURIComponent(share.deviceId)}`}>
                  <bdi>{share.deviceName ?? share.deviceId}</bdi>
                </Link>
              }
            />
          ))}
          {person.ended.map((share) => (
            <EndedLine key={share.id} share={share} onRenew={contact && (() => setRenewing(share))} />
          ))}
        </ul>
        {contact && <Remark key={contact.remark ?? ''} contact={contact} />}
        {contact && (
          <p className="card-actions">
            <button type="button" className="danger small" onClick={() => setRemoving(true)}>
              Delete recipient…
            </button>
          </p>
        )}
      </details>
      {renewing && contact && (
        <RenewDialog share={renewing} contact={contact} onClose={() => setRenewing(undefined)} />
      )}
      {removing && contact && (
        <RemoveRecipientDialog person={person} name={name} contact={contact} onClose={() => setRemoving(false)} />
      )}
    </li>
  );
}

function Remark({ contact }: { contact: Contact }) {
  const client = useQueryClient();
  const [text, setText] = useState(contact.remark ?? '');
  const save = useMutation({
    mutationFn: () => ask(SetRemark, { contact: contact.id, remark: text.trim() }),
    onSuccess: () => client.invalidateQueries({ queryKey: CONTACTS_KEY }),
  });
  const changed = text.trim() !== (contact.remark ?? '');
  return (
    <form
      className="remark"
      onSubmit={(event) => {
        event.preventDefault();
        if (changed) save.mutate();
      }}
    >
      <label className="field">
        <span>Remark (only you see it)</span>
        <input maxLength={200} value={text} onChange={(event) => setText(event.target.value)} />
      </label>
      {changed && (
        <button type="submit" className="small" disabled={save.isPending}>
          Save
        </button>
      )}
      <Problem error={save.error} />
    </form>
  );
}
