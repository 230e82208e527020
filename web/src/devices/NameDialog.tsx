import { useMutation, useQueryClient } from '@tanstack/react-query';
import { useState } from 'react';
import { RenameDevice, SetAlias } from '../generated';
import { ask } from '../lib/graphql';
import { useAnnounce } from '../parts/Announcer';
import { Dialog } from '../parts/Dialog';
import { Problem } from '../parts/Notice';
import { type Device, refreshDevices } from './devices';

const MOST = { name: 200, alias: 120 };

/** The owner names a device for everybody; anybody else calls it what he likes, for himself. */
export function NameDialog({ device, onClose }: { device: Device; onClose: () => void }) {
  const client = useQueryClient();
  const announce = useAnnounce();
  const [name, setName] = useState(device.owned ? device.name : (device.alias ?? ''));
  const given = name.trim();
  const save = useMutation({
    mutationFn: async () => {
      if (device.owned) await ask(RenameDevice, { device: device.id, name: given });
      else await ask(SetAlias, { device: device.id, alias: given });
    },
    onSuccess: async () => {
      announce(device.owned ? 'Renamed; it shows in a moment.' : 'Saved.');
      onClose();
      // An alias is the portal's own; a name comes back from the registry, and is told of when it does.
      if (!device.owned) await refreshDevices(client, [device.id]);
    },
  });
  return (
    <Dialog
      title={device.owned ? 'Rename' : 'A name of your own'}
      onClose={onClose}
      actions={
        <>
          <button type="button" onClick={onClose}>
            Cancel
          </button>
          <button
            type="submit"
            form="name-form"
            className="primary"
            disabled={save.isPending || (device.owned && (!given || given === device.name))}
          >
            {save.isPending ? 'Saving…' : 'Save'}
          </button>
        </>
      }
    >
      <form
        id="name-form"
        onSubmit={(event) => {
          event.preventDefault();
          save.mutate();
        }}
      >
        <label className="field">
          <span>{device.owned ? 'Name' : `What you call ${device.name}`}</span>
          <input
            value={name}
            maxLength={device.owned ? MOST.name : MOST.alias}
            onChange={(event) => setName(event.target.value)}
          />
          <small>
            {device.owned ? 'Everybody with whom it is shared sees it.' : 'Only you see it. Empty: its own name.'}
          </small>
        </label>
      </form>
      <Problem error={save.error} />
    </Dialog>
  );
}
