import { useQueryClient } from '@tanstack/react-query';
import { useState } from 'react';
import { readAgain } from '../lib/settled';
import { count } from '../lib/words';
import { Dialog } from '../parts/Dialog';
import { Icon } from '../parts/Icon';
import { Empty, Loading, Problem } from '../parts/Notice';
import { Avatar } from '../parts/Avatar';
import {
  type Added,
  addAll,
  addressesIn,
  addressOf,
  type Contact,
  CONTACTS_KEY,
  contactName,
  MOST_PASTED,
  useContacts,
} from './contacts';
import { ScanDialog } from './ScanDialog';

interface Props {
  chosen: readonly Contact[];
  onChoose: (contacts: readonly Contact[]) => void;
  onClose: () => void;
}

/** Choose from the book, or put somebody into it: by address, by a pasted list, by a code before the camera. */
export function ContactPicker({ chosen, onChoose, onClose }: Props) {
  const client = useQueryClient();
  const contacts = useContacts();
  const [ticked, setTicked] = useState<ReadonlySet<string>>(new Set(chosen.map((contact) => contact.id)));
  const [words, setWords] = useState('');
  const [adding, setAdding] = useState(0);
  const [failed, setFailed] = useState<Added['failed']>([]);
  const [scanning, setScanning] = useState(false);

  const book = contacts.data ?? [];
  const wanted = words.trim().toLocaleLowerCase();
  const shown = book.filter((contact) =>
    [contact.email, contact.phone, contact.name, contact.remark].join('\n').toLocaleLowerCase().includes(wanted),
  );
  const typed = addressesIn(words);
  const fresh = typed.filter((address) => !book.some((contact) => addressOf(contact) === address.toLowerCase()));
  const looksNew = fresh.length > 0 && (typed.length > 1 || /@.|^\+?[\d ()/-]{6,}$/.test(words.trim()));

  const tick = (id: string, on: boolean) => {
    const next = new Set(ticked);
    if (on) next.add(id);
    else next.delete(id);
    setTicked(next);
  };
  const takeIn = async (ids: readonly string[]) => {
    await readAgain(client, CONTACTS_KEY); // or the book, read before they were in it, would lack them
    setTicked((before) => new Set([...before, ...ids]));
  };
  const add = async () => {
    setAdding((number) => number + 1);
    setFailed([]);
    setWords(''); // whoever types on is not interrupted
    try {
      const added = await addAll(typed.slice(0, MOST_PASTED));
      await takeIn(added.ids);
      const left = typed.slice(MOST_PASTED).map((address) => ({ address, why: `Add ${MOST_PASTED} at a time.` }));
      setFailed([...added.failed, ...left]);
    } finally {
      setAdding((number) => number - 1);
    }
  };

  return (
    <Dialog
      title="Contact Picker"
      onClose={onClose}
      actions={
        <>
          <button type="button" onClick={onClose}>
            Cancel
          </button>
          <button
            type="button"
            className="primary"
            disabled={contacts.isFetching || adding > 0}
            onClick={() => onChoose(book.filter((contact) => ticked.has(contact.id)))}
          >
            Choose Contacts{ticked.size > 0 && ` (${ticked.size})`}
          </button>
        </>
      }
    >
      <form
        className="picker-search"
        onSubmit={(event) => {
          event.preventDefault();
          const known = typed.flatMap((address) => book.find((contact) => addressOf(contact) === address)?.id ?? []);
          if (looksNew) void add();
          else if (known.length) {
            setTicked(new Set([...ticked, ...known]));
            setWords('');
          }
        }}
      >
        <label className="search">
          <Icon name="search" />
          <span className="hidden-words">Search contacts, or type or paste addresses</span>
          <textarea
            rows={typed.length > 1 ? Math.min(typed.length + 1, 6) : 1}
            placeholder="Search, or add an address"
            value={words}
            onChange={(event) => setWords(event.target.value)}
            onKeyDown={(event) => {
              if (event.key !== 'Enter' || event.shiftKey) return;
              event.preventDefault();
              event.currentTarget.form?.requestSubmit();
            }}
          />
        </label>
        <button type="button" onClick={() => setScanning(true)}>
          <Icon name="qr" /> Scan a code
        </button>
      </form>
      {looksNew && (
        <button type="button" className="add-typed" onClick={() => void add()}>
          <Icon name="plus" />
          {typed.length > 1 ? `Add ${count(typed.length, 'address', 'addresses')}` : `Add ${typed[0]}`}
        </button>
      )}
      {adding > 0 && <Loading what="who was added" />}
      {failed.length > 0 && (
        <div className="problem" role="alert">
          <Icon name="warning" />
          <ul className="plain">
            {failed.map(({ address, why }) => (
              <li key={address}>
                <strong>{address}</strong>: {why}
              </li>
            ))}
          </ul>
        </div>
      )}
      <Problem error={contacts.error} />
      {contacts.isPending && <Loading what="your contacts" />}
      {contacts.data && !book.length && !looksNew && (
        <Empty title="Nobody here yet">
          <p>Type an e-mail address or a phone number with its country code, or scan somebody’s code.</p>
        </Empty>
      )}
      {book.length > 0 && !shown.length && !looksNew && <p className="soft">No contact matches.</p>}
      <ul className="contacts" aria-label="Contacts">
        {shown.map((contact) => (
          <li key={contact.id}>
            <label className="contact">
              <input
                type="checkbox"
                checked={ticked.has(contact.id)}
                onChange={(event) => tick(contact.id, event.target.checked)}
              />
              <Avatar name={contactName(contact)} />
              <span className="contact-words">
                <bdi>{contactName(contact)}</bdi>
                <small className="one-line">
                  {[contact.name && addressOf(contact), contact.remark].filter(Boolean).join(' · ')}
                </small>
              </span>
            </label>
          </li>
        ))}
      </ul>
      {scanning && (
        <ScanDialog
          onClose={() => setScanning(false)}
          onScanned={(id) => {
            setScanning(false);
            void takeIn([id]);
          }}
        />
      )}
    </Dialog>
  );
}
