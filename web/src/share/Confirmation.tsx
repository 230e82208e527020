import { useQueryClient } from '@tanstack/react-query';
import { useEffect, useState } from 'react';
import { refreshDevices } from '../devices/devices';
import { count, outcomeName, refusalInWords } from '../lib/words';
import { Dialog } from '../parts/Dialog';
import { Icon } from '../parts/Icon';
import { Problem } from '../parts/Notice';
import { CONTACTS_KEY } from './contacts';
import { forget, type Item, keep, type Operation, retryOf, run } from './operation';

const MOST_SHOWN = 500; // rows; what failed comes first

interface Props {
  operation: Operation;
  onClose: () => void;
}

/** Does a bulk share, and tells what became of each device with each contact. */
export function Confirmation({ operation: given, onClose }: Props) {
  const client = useQueryClient();
  const [operation, setOperation] = useState(given);
  const [attempt, setAttempt] = useState(0);
  const [earlier, setEarlier] = useState<readonly Item[]>([]);
  const [items, setItems] = useState<readonly Item[]>([]);
  const [state, setState] = useState<'running' | 'waiting' | 'done'>('running');
  const [error, setError] = useState<unknown>(null);

  useEffect(() => {
    let over = false;
    const doing = async () => {
      setState('running');
      setError(null);
      keep(operation);
      try {
        await run(
          operation,
          (told) => !over && setItems(told),
          (waits) => !over && setState(waits ? 'waiting' : 'running'),
        );
      } catch (problem) {
        if (!over) setError(problem);
      }
      if (over) return;
      setState('done');
      void client.invalidateQueries({ queryKey: CONTACTS_KEY });
      void client.invalidateQueries({ queryKey: ['pastShares'] });
      void client.invalidateQueries({ queryKey: ['given'] });
      void refreshDevices(client, [...new Set(operation.parts.flatMap((part) => part.devices))]);
    };
    void doing();
    return () => {
      over = true;
    };
  }, [operation, attempt, client]);

  const close = () => {
    if (state !== 'done') return;
    forget();
    onClose();
  };
  const retry = () => {
    if (error) {
      setAttempt(attempt + 1); // the same operation: it goes on where it stopped
      return;
    }
    setEarlier([...earlier, ...items.filter((item) => !isRefused(item))]);
    setItems([]);
    setOperation(retryOf(operation, items));
  };

  const all = [...earlier, ...items];
  const shown = [...all].sort((one, other) => Number(isRefused(other)) - Number(isRefused(one))).slice(0, MOST_SHOWN);
  const pairs = operation.parts.reduce((sum, part) => sum + part.devices.length * part.recipients.length, 0);
  const refused = items.filter(isRefused).length;
  const failed = refused > 0 || Boolean(error);
  return (
    <Dialog
      wide
      title="Sharing Confirmation"
      onClose={close}
      actions={
        <>
          {state === 'done' && failed && (
            <button type="button" onClick={retry}>
              {error ? 'Try again' : `Retry ${refused} that failed`}
            </button>
          )}
          <button type="button" className="primary" disabled={state !== 'done'} onClick={close}>
            Close
          </button>
        </>
      }
    >
      <p role="status" className={state === 'done' && !failed ? 'result good' : 'result'}>
        {state === 'running' && (
          <>
            <span className="spinner" aria-hidden="true" /> Sharing… {items.length ? `${items.length} of ${pairs} done.` : ''}
          </>
        )}
        {state === 'waiting' && (
          <>
            <span className="spinner" aria-hidden="true" /> The server does not answer, or asks for a pause. Nothing is lost; trying again…
          </>
        )}
        {state === 'done' && !failed && (
          <>
            <Icon name="check" /> {count(all.length, 'share')} done. Who is invited gets access once he has accepted.
          </>
        )}
        {state === 'done' && !error && refused > 0 && (
          <>
            <Icon name="warning" /> {all.length - refused} of {all.length} done, {refused} failed.
          </>
        )}
      </p>
      <Problem error={error} />
      {all.length > 0 && (
        <div className="table-frame" tabIndex={0} role="region" aria-label="Outcomes">
          <table>
            <thead>
              <tr>
                <th scope="col">Device</th>
                <th scope="col">Contact</th>
                <th scope="col">Outcome</th>
              </tr>
            </thead>
            <tbody>
              {shown.map((item) => (
                <tr key={`${item.deviceId} ${item.recipient}`} className={isRefused(item) ? 'refused' : ''}>
                  <td>
                    <bdi>{operation.deviceNames[item.deviceId] ?? item.deviceId}</bdi>
                  </td>
                  <td>
                    <bdi>{operation.recipientNames[item.recipient ?? ''] ?? item.recipient}</bdi>
                  </td>
                  <td>
                    {outcomeName(item.outcome)}
                    {item.code && (
                      <small>{refusalInWords({ code: item.code, message: item.message ?? '' })}</small>
                    )}
                  </td>
                </tr>
              ))}
            </tbody>
          </table>
        </div>
      )}
      {all.length > shown.length && (
        <p className="soft">and {(all.length - shown.length).toLocaleString('en')} more.</p>
      )}
    </Dialog>
  );
}

function isRefused(item: Item): boolean {
  return item.outcome === 'REFUSED';
}
