import { useDevices } from '../devices/devices';
import type { Contact } from '../share/contacts';
import { ShareDialog } from '../share/ShareDialog';
import type { PastShare } from './given';

/** Share again what a share had that has ended. It is no part of that share's line, which goes when this is done. */
export function RenewDialog({
  share,
  contact,
  onClose,
}: {
  share: PastShare;
  contact: Contact;
  onClose: () => void;
}) {
  const devices = useDevices();
  const device = devices.data?.find((item) => item.id === share.deviceId && item.owned);
  if (!device) return null;
  const { terms } = share;
  const known = new Set(device.services.map((service) => service.id));
  const services = terms.services && new Set(terms.services.map((item) => item.serviceId).filter((id) => known.has(id)));
  const lists = terms.services ? terms.services.map((item) => item.permissions) : [terms.permissions];
  const permissions = lists.some((list) => list === null) ? null : new Set(lists.flatMap((list) => list ?? []));
  return (
    <ShareDialog
      devices={[device]}
      recipients={[contact]}
      choice={{ services: services?.size ? services : null, permissions }}
      onClose={onClose}
      onDone={onClose}
    />
  );
}
