import { useMutation, useQueryClient } from '@tanstack/react-query';
import { Leave } from '../generated';
import { ask } from '../lib/graphql';
import { count } from '../lib/words';
import { useAnnounce } from '../parts/Announcer';
import { Dialog } from '../parts/Dialog';
import { Problem } from '../parts/Notice';
import { type Device, nameOf, refreshDevices } from './devices';

interface Props {
  devices: readonly Device[];
  onClose: () => void;
  onDone: () => void;
}

/** Give back what others share with the caller. */
export function LeaveDialog({ devices, onClose, onDone }: Props) {
  const client = useQueryClient();
  const announce = useAnnounce();
  const leave = useMutation({
    mutationFn: async () => {
      for (const device of devices) await ask(Leave, { device: device.id }); // by whichever address it came
    },
    onSuccess: async () => {
      announce(`Given back: ${devices.length === 1 ? nameOf(devices[0] as Device) : count(devices.length, 'device')}.`);
      onDone();
      await refreshDevices(client, []);
    },
  });
  return (
    <Dialog
      title={devices.length === 1 ? 'Give this device back?' : `Give ${count(devices.length, 'device')} back?`}
      onClose={onClose}
      actions={
        <>
          <button type="button" onClick={onClose}>
            Keep
          </button>
          <button type="button" className="danger" disabled={leave.isPending} onClick={() => leave.mutate()}>
            {leave.isPending ? 'Giving back…' : 'Give back'}
          </button>
        </>
      }
    >
      <p>Your access ends at once, and what you have open is cut. To get it again, ask to be invited again.</p>
      <ul className="plain">
        {devices.map((device) => (
          <li key={device.id}>
            <bdi>{nameOf(device)}</bdi>
            <span className="soft"> from {device.owner.name ?? device.owner.email}</span>
          </li>
        ))}
      </ul>
      <Problem error={leave.error} />
    </Dialog>
  );
}
