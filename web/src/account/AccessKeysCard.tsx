import { useMutation, useQuery, useQueryClient } from '@tanstack/react-query';
import { useState } from 'react';
import {
  AccessKeys,
  CreateAccessKey,
  type CreateAccessKeyMutation,
  DeleteAccessKey,
  UpdateAccessKey,
} from '../generated';
import { ask } from '../lib/graphql';
import { moment } from '../lib/words';
import { Copyable } from '../parts/Copyable';
import { Dialog } from '../parts/Dialog';
import { Loading, Problem } from '../parts/Notice';

const KEY = ['keys'];

/** Keys with which scripts sign their requests. */
export function AccessKeysCard() {
  const client = useQueryClient();
  const keys = useQuery({ queryKey: KEY, queryFn: async () => (await ask(AccessKeys)).login?.accessKeys ?? [] });
  const [made, setMade] = useState<CreateAccessKeyMutation['createAccessKey'] | null>(null);
  const [deleting, setDeleting] = useState<string | null>(null);
  const again = () => client.invalidateQueries({ queryKey: KEY });
  const create = useMutation({
    mutationFn: async () => (await ask(CreateAccessKey)).createAccessKey,
    onSuccess: (key) => {
      setMade(key);
      return again();
    },
  });
  const update = useMutation({
    mutationFn: (change: { key: string; enabled: boolean }) => ask(UpdateAccessKey, change),
    onSuccess: again,
  });
  return (
    <section className="card">
      <div className="card-head">
        <h2>Access keys</h2>
        <button type="button" className="small" disabled={create.isPending} onClick={() => create.mutate()}>
          New key
        </button>
      </div>
      <p className="soft">Scripts sign their requests with them.</p>
      {keys.isPending && <Loading what="your keys" />}
      <ul className="share-lines">
        {keys.data?.map((key) => (
          <li className="share-line" key={key.key}>
            <div className="share-words">
              <p>
                <code>{key.key}</code>
                {!key.enabled && <span className="state ended">Disabled</span>}
              </p>
              <p className="soft">
                made {moment(key.created)} · {key.lastUsed ? `last used ${moment(key.lastUsed)}` : 'never used'}
              </p>
            </div>
            <button
              type="button"
              className="small"
              aria-label={`${key.enabled ? 'Disable' : 'Enable'} ${key.key}`}
              onClick={() => update.mutate({ key: key.key, enabled: !key.enabled })}
            >
              {key.enabled ? 'Disable' : 'Enable'}
            </button>
            <button
              type="button"
              className="danger small"
              aria-label={`Delete ${key.key}`}
              onClick={() => setDeleting(key.key)}
            >
              Delete
            </button>
          </li>
        ))}
      </ul>
      <Problem error={keys.error ?? create.error ?? update.error} />
      {made && (
        <Dialog
          title="Your new access key"
          onClose={() => setMade(null)}
          actions={
            <button type="button" className="primary" onClick={() => setMade(null)}>
              I have kept the secret
            </button>
          }
        >
          <p>The secret is shown this once. Keep it now, as in a credentials file:</p>
          <Copyable label="Key" text={made.key} />
          <Copyable label="Secret" text={made.secret} />
        </Dialog>
      )}
      {deleting && <DeleteDialog name={deleting} onClose={() => setDeleting(null)} onDone={again} />}
    </section>
  );
}

function DeleteDialog({ name, onClose, onDone }: { name: string; onClose: () => void; onDone: () => Promise<void> }) {
  const remove = useMutation({
    mutationFn: () => ask(DeleteAccessKey, { key: name }),
    onSuccess: () => {
      onClose();
      return onDone();
    },
  });
  return (
    <Dialog
      title="Delete this access key?"
      onClose={onClose}
      actions={
        <>
          <button type="button" onClick={onClose}>
            Keep
          </button>
          <button type="button" className="danger" disabled={remove.isPending} onClick={() => remove.mutate()}>
            Delete
          </button>
        </>
      }
    >
      <p>
        Scripts that sign with <code>{name}</code> are refused from then on.
      </p>
      <Problem error={remove.error} />
    </Dialog>
  );
}
