import { useMutation } from '@tanstack/react-query';
import { type ReactNode, useState } from 'react';
import type { Device } from '../devices/devices';
import { EndShare, Resend, type TermsFragment } from '../generated';
import { ask } from '../lib/graphql';
import { moment, termsInWords } from '../lib/words';
import { useAnnounce } from '../parts/Announcer';
import { Menu } from '../parts/Menu';
import { Problem } from '../parts/Notice';
import { EditShareDialog } from './EditShareDialog';
import { useSharesChanged } from './given';

/** A live share or open invitation, whichever list it comes from. */
export interface LiveShare {
  readonly id: string;
  readonly deviceId: string;
  readonly address: string;
  readonly state: string;
  readonly terms: TermsFragment;
  readonly expiresAt: string | null;
}

interface Props {
  share: LiveShare;
  /** What the line is about: the person on a device's page, the device on a person's. */
  title: ReactNode;
  titleWords: string;
  device: Device | undefined;
}

/** One share, and what its owner can do with it. */
export function ShareLine({ share, title, titleWords, device }: Props) {
  const announce = useAnnounce();
  const changed = useSharesChanged();
  const [editing, setEditing] = useState(false);
  const open = share.state === 'requested';
  const end = useMutation({
    mutationFn: () => ask(EndShare, { device: share.deviceId, recipients: [share.address] }),
    onSuccess: async () => {
      announce(open ? `The invitation of ${titleWords} is cancelled.` : `Ended: ${titleWords}.`);
      await changed();
    },
  });
  const resend = useMutation({
    mutationFn: () => ask(Resend, { device: share.deviceId, share: share.id }),
    onSuccess: async () => {
      announce(`Invited again: ${titleWords}.`);
      await changed();
    },
  });
  const names = new Map(device?.services.map((service) => [service.id, service.name]));
  return (
    <li className="share-line">
      <div className="share-words">
        <p>
          {title}
          <span className={open ? 'state open' : 'state'}>{open ? 'Invited' : 'Active'}</span>
        </p>
        <p className="soft">{termsInWords(share.terms, names)}</p>
        {open && share.expiresAt && <p className="soft">Can be accepted until {moment(share.expiresAt)}</p>}
        <Problem error={end.error ?? resend.error} />
      </div>
      <Menu
        label=""
        quiet={`Actions for ${titleWords}`}
        items={[
          { label: 'Edit…', onChoose: () => setEditing(true) },
          ...(open ? [{ label: 'Send again', onChoose: () => resend.mutate() }] : []),
          open
            ? { label: 'Cancel invitation', onChoose: () => end.mutate(), danger: true }
            : { label: 'Revoke', onChoose: () => end.mutate(), danger: true },
        ]}
      />
      {editing && (
        <EditShareDialog
          deviceId={share.deviceId}
          device={device}
          shareId={share.id}
          title={titleWords}
          onClose={() => setEditing(false)}
        />
      )}
    </li>
  );
}
