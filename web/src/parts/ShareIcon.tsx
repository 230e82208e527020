import { Link } from 'wouter';
import { type Device, sharingInWords } from '../devices/devices';
import { type ShareState, ShareDrawing } from './Icon';
import { Tooltip } from './Tooltip';

/** How a device is shared: no arrow, an incoming one, an outgoing one, or both; who with, on hover and focus. */
export function ShareIcon({ device }: { device: Device }) {
  const words = sharingInWords(device);
  return (
    <Tooltip words={words}>
      <Link
        className={`share-icon ${device.shareState}`}
        href={`/devices/${encodeURIComponent(device.id)}`}
        aria-label={words}
        data-state={device.shareState}
      >
        <ShareDrawing state={device.shareState as ShareState} />
      </Link>
    </Tooltip>
  );
}
