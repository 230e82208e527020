import { useState } from 'react';
import { useDevices } from '../devices/devices';
import { moment, termsInWords } from '../lib/words';
import type { Contact } from '../share/contacts';
import { ShareDialog } from '../share/ShareDialog';
import type { PastShare } from './given';

const STATES: Record<string, string> = {
  rejected: 'Rejected',
  revoked: 'Ended by you',
  left: 'Given back',
  expired: 'Time was over',
};

/** A share that has ended, to be renewed. */
export function EndedLine({ share, contact }: { share: PastShare; contact: Contact | undefined }) {
  const devices = useDevices();
  const [renewing, setRenewing] = useState(false);
  const device = devices.data?.find((item) => item.id === share.deviceId && item.owned);
  const { terms } = share;
  const known = new Set(device?.services.map((service) => service.id));
  const services = terms.services && new Set(terms.services.map((item) => item.serviceId).filter((id) => known.has(id)));
  const lists = terms.services ? terms.services.map((item) => item.permissions) : [terms.permissions];
  const permissions = lists.some((list) => list === null) ? null : new Set(lists.flatMap((list) => list ?? []));
  const names = new Map(device?.services.map((service) => [service.id, service.name]));
  return (
    <li className="share-line ended">
      <div className="share-words">
        <p>
          <bdi>{share.deviceName ?? share.deviceId}</bdi>
          <span className="state ended">{STATES[share.state] ?? share.state}</span>
        </p>
        <p className="soft">
          {moment(share.since)} · {termsInWords(terms, names)}
        </p>
      </div>
      {device && contact && (
        <button
          type="button"
          className="small"
          aria-label={`Renew ${device.name}`}
          onClick={() => setRenewing(true)}
        >
          Renew…
        </button>
      )}
      {renewing && device && contact && (
        <ShareDialog
          devices={[device]}
          recipients={[contact]}
          choice={{ services: services?.size ? services : null, permissions }}
          onClose={() => setRenewing(false)}
          onDone={() => setRenewing(false)}
        />
      )}
    </li>
  );
}
