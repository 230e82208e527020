import { useMutation } from '@tanstack/react-query';
import { useState } from 'react';
import { type Device, nameOf } from '../devices/devices';
import { SetRemark } from '../generated';
import { ask } from '../lib/graphql';
import { count, fromInput } from '../lib/words';
import { Dialog } from '../parts/Dialog';
import { Icon } from '../parts/Icon';
import { Problem } from '../parts/Notice';
import { ChoiceEditor } from './ChoiceEditor';
import { Confirmation } from './Confirmation';
import { ContactPicker } from './ContactPicker';
import { addressOf, type Contact, contactName } from './contacts';
import { newOperationId, type Operation } from './operation';
import { type Period, PeriodFields } from './PeriodFields';
import { type Choice, EVERYTHING, groupsOf, problemOf } from './plan';
import { Preview } from './Preview';

interface Props {
  devices: readonly Device[];
  /** Whom, and what, the dialog begins with. */
  recipients?: readonly Contact[];
  choice?: Choice;
  onClose: () => void;
  /** After the confirmation was read. */
  onDone: () => void;
}

export const MOST_MESSAGE = 1000;
const MOST_REMARK = 200;
const SHOWN_CHIPS = 12;

/** Share devices with people: whom, what, and for how long. */
export function ShareDialog({ devices: given, recipients: first = [], choice = EVERYTHING, onClose, onDone }: Props) {
  const [begun] = useState({ given, first, choice });
  const [devices, setDevices] = useState(given);
  const [recipients, setRecipients] = useState(first);
  const [picking, setPicking] = useState(false);
  const [common, setCommon] = useState(choice);
  const [own, setOwn] = useState<ReadonlyMap<string, Choice> | null>(null);
  const [scripting, setScripting] = useState(false);
  const [period, setPeriod] = useState<Period>({ starts: '', ends: '' });
  const [message, setMessage] = useState('');
  const [remark, setRemark] = useState('');
  const [notify, setNotify] = useState(true);
  const [operation, setOperation] = useState<Operation | null>(null);

  const choiceOf = (id: string) => own?.get(id) ?? common;
  const missing = devices.length
    ? recipients.length
      ? problemOf(devices, choiceOf)
      : 'Pick whom to share with.'
    : 'Choose at least one device.';
  const terms = {
    recipients: recipients.map((contact) => `contact:${contact.id}`),
    scripting,
    startsAt: fromInput(period.starts),
    endsAt: fromInput(period.ends),
  };
  const groups = groupsOf(devices, choiceOf, recipients.length);

  const add = useMutation({
    mutationFn: async () => {
      if (remark.trim())
        await Promise.all(recipients.map((contact) => ask(SetRemark, { contact: contact.id, remark: remark.trim() })));
    },
    onSuccess: () =>
      setOperation({
        parts: groups.map((group) => ({
          ...terms,
          ...group,
          notify,
          message: message.trim() || null,
          operation: newOperationId(),
        })),
        deviceNames: Object.fromEntries(devices.map((device) => [device.id, nameOf(device)])),
        recipientNames: Object.fromEntries(
          recipients.map((contact) => [`contact:${contact.id}`, contactName(contact)]),
        ),
      }),
  });

  const entered =
    recipients !== begun.first || devices !== begun.given || common !== begun.choice || own !== null || scripting || !notify ||
    [period.starts, period.ends, message, remark].some((text) => text !== '');

  if (operation) return <Confirmation operation={operation} onClose={onDone} />;
  return (
    <Dialog
      wide
      entered={entered}
      title={devices.length === 1 && devices[0] ? `Share ${nameOf(devices[0])}` : 'Bulk Sharing'}
      onClose={onClose}
      actions={
        <>
          {missing && <p className="soft footer-words">{missing}</p>}
          <button type="button" onClick={onClose}>
            Cancel
          </button>
          <button
            type="button"
            className="primary"
            disabled={Boolean(missing) || add.isPending}
            onClick={() => add.mutate()}
          >
            Add Sharing
          </button>
        </>
      }
    >
      <Chosen label={count(devices.length, 'device')}>
        {devices.slice(0, SHOWN_CHIPS).map((device) => (
          <Chip
            key={device.id}
            name={nameOf(device)}
            onRemove={devices.length > 1 ? () => setDevices(devices.filter((item) => item !== device)) : undefined}
          />
        ))}
        {devices.length > SHOWN_CHIPS && (
          <li className="soft">and {(devices.length - SHOWN_CHIPS).toLocaleString('en')} more</li>
        )}
      </Chosen>
      <Chosen label="With">
        {recipients.map((contact) => (
          <Chip
            key={contact.id}
            name={contactName(contact)}
            title={addressOf(contact)}
            onRemove={() => setRecipients(recipients.filter((item) => item !== contact))}
          />
        ))}
        <li>
          <button type="button" className={recipients.length ? 'small' : 'small primary'} onClick={() => setPicking(true)}>
            <Icon name="plus" /> Pick…
          </button>
        </li>
      </Chosen>

      {devices.length > 1 && (
        <label className="tick">
          <input
            type="checkbox"
            checked={own !== null}
            onChange={(event) =>
              setOwn(event.target.checked ? new Map(devices.map((device) => [device.id, common])) : null)
            }
          />
          <span>Set services and permissions for each device</span>
        </label>
      )}
      {own === null ? (
        <ChoiceEditor devices={devices} choice={common} onChange={setCommon} name="common" />
      ) : (
        devices.map((device) => (
          <details className="per-device" key={device.id} open={devices.length <= 3}>
            <summary>
              <bdi>{nameOf(device)}</bdi>
            </summary>
            <ChoiceEditor
              devices={[device]}
              choice={choiceOf(device.id)}
              onChange={(next) => setOwn(new Map(own).set(device.id, next))}
              name={device.id}
            />
          </details>
        ))
      )}
      <label className="tick">
        <input type="checkbox" checked={scripting} onChange={(event) => setScripting(event.target.checked)} />
        <span>Allow running scripts</span>
      </label>
      <PeriodFields period={period} onChange={setPeriod} />
      <label className="field">
        <span>Message to who is invited</span>
        <textarea
          rows={2}
          maxLength={MOST_MESSAGE}
          value={message}
          onChange={(event) => setMessage(event.target.value)}
        />
      </label>
      <label className="field">
        <span>Remark for yourself</span>
        <input maxLength={MOST_REMARK} value={remark} onChange={(event) => setRemark(event.target.value)} />
        <small>Nobody else ever sees it. It stays with the contact.</small>
      </label>
      <label className="tick">
        <input type="checkbox" checked={notify} onChange={(event) => setNotify(event.target.checked)} />
        <span>Send a notice</span>
      </label>
      {!missing && <Preview groups={groups} terms={terms} devices={devices} recipients={recipients} />}
      <Problem error={add.error} />

      {picking && (
        <ContactPicker
          chosen={recipients}
          onClose={() => setPicking(false)}
          onChoose={(contacts) => {
            setRecipients(contacts);
            setPicking(false);
          }}
        />
      )}
    </Dialog>
  );
}

function Chosen({ label, children }: { label: string; children: React.ReactNode }) {
  return (
    <div className="chosen">
      <span className="chosen-label">{label}</span>
      <ul className="chips" aria-label={label}>
        {children}
      </ul>
    </div>
  );
}

interface ChipProps {
  name: string;
  title?: string;
  onRemove?: (() => void) | undefined;
}

function Chip({ name, title, onRemove }: ChipProps) {
  return (
    <li className="chip" title={title}>
      <bdi className="one-line">{name}</bdi>
      {onRemove && (
        <button type="button" className="icon-button" aria-label={`Remove ${name}`} onClick={onRemove}>
          <Icon name="close" />
        </button>
      )}
    </li>
  );
}
