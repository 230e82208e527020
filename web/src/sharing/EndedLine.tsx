import { useDevices } from '../devices/devices';
import { moment, termsInWords } from '../lib/words';
import type { PastShare } from './given';

const STATES: Record<string, string> = {
  rejected: 'Rejected',
  revoked: 'Ended by you',
  left: 'Given back',
  expired: 'Time was over',
};

/** A share that has ended. `onRenew`: it can be given again. */
export function EndedLine({ share, onRenew }: { share: PastShare; onRenew: (() => void) | undefined }) {
  const devices = useDevices();
  const device = devices.data?.find((item) => item.id === share.deviceId && item.owned);
  const names = new Map(device?.services.map((service) => [service.id, service.name]));
  return (
    <li className="share-line ended">
      <div className="share-words">
        <p>
          <bdi>{share.deviceName ?? share.deviceId}</bdi>
          <span className="state ended">{STATES[share.state] ?? share.state}</span>
        </p>
        <p className="soft">
          {moment(share.since)} · {termsInWords(share.terms, names)}
        </p>
      </div>
      {device && onRenew && (
        <button type="button" className="small" aria-label={`Renew ${device.name}`} onClick={onRenew}>
          Renew…
        </button>
      )}
    </li>
  );
}
