import { useMutation, useQueryClient } from '@tanstack/react-query';
import { RemoveRecipient } from '../generated';
import { ask } from '../lib/graphql';
import { useAnnounce } from '../parts/Announcer';
import { Dialog } from '../parts/Dialog';
import { Problem } from '../parts/Notice';
import { type Contact, CONTACTS_KEY } from '../share/contacts';
import { type Person, useSharesChanged } from './given';

interface Props {
  person: Person;
  name: string;
  contact: Contact;
  onClose: () => void;
}

/** Delete a recipient with all sharing, after saying what ends. */
export function RemoveRecipientDialog({ person, name, contact, onClose }: Props) {
  const client = useQueryClient();
  const announce = useAnnounce();
  const changed = useSharesChanged();
  const remove = useMutation({
    mutationFn: () => ask(RemoveRecipient, { recipient: `contact:${contact.id}` }),
    onSuccess: async () => {
      announce(`${name} is deleted, with all sharing.`);
      onClose();
      await Promise.all([changed(), client.invalidateQueries({ queryKey: CONTACTS_KEY })]);
    },
  });
  return (
    <Dialog
      title={`Delete ${name}?`}
      onClose={onClose}
      actions={
        <>
          <button type="button" onClick={onClose}>
            Keep
          </button>
          <button type="button" className="danger" disabled={remove.isPending} onClick={() => remove.mutate()}>
            {remove.isPending ? 'Deleting…' : 'Delete with all sharing'}
          </button>
        </>
      }
    >
      {person.live.length > 0 ? (
        <>
          <p>This ends at once, and what is open is cut:</p>
          <ul className="plain ends">
            {person.live.map((share) => (
              <li key={share.id}>
                <bdi>{share.deviceName ?? share.deviceId}</bdi>
                <span className="soft">{share.state === 'requested' ? ' (invited)' : ''}</span>
              </li>
            ))}
          </ul>
        </>
      ) : (
        <p>Nothing is shared with {name} now.</p>
      )}
      <p>{name} and your remark leave your contacts. Other sharing stays as it is.</p>
      <Problem error={remove.error} />
    </Dialog>
  );
}
