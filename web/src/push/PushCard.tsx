import { useMutation, useQuery, useQueryClient } from '@tanstack/react-query';
import { PushKey } from '../generated';
import { ask } from '../lib/graphql';
import { Problem } from '../parts/Notice';
import { pushState, turnPushOff, turnPushOn } from './push';

const STATE = ['push'];
const WORDS = {
  unsupported: 'This browser cannot show notices while no page of Latchkey is open.',
  blocked: 'You have told this browser to show no notices of Latchkey. Allow it in its settings first.',
  off: 'Be told of invitations and changes also while no page of Latchkey is open.',
  on: 'You are told of invitations and changes also while no page of Latchkey is open.',
};

/** Turns notices in this browser on and off; nothing where the server has no Web Push. */
export function PushCard() {
  const client = useQueryClient();
  const key = useQuery({
    queryKey: ['push key'],
    queryFn: async () => (await ask(PushKey)).login?.pushSubscriptions.webPushKey ?? null,
  });
  const state = useQuery({ queryKey: STATE, queryFn: pushState });
  const turn = useMutation({
    mutationFn: (publicKey: string) => (state.data === 'on' ? turnPushOff() : turnPushOn(publicKey)),
    onSettled: () => client.invalidateQueries({ queryKey: STATE }),
  });
  const publicKey = key.data;
  if (!publicKey || !state.data) return null;
  return (
    <section className="card">
      <div className="card-head">
        <h2>Notices in this browser</h2>
        {(state.data === 'on' || state.data === 'off') && (
          <button type="button" className="small" disabled={turn.isPending} onClick={() => turn.mutate(publicKey)}>
            {state.data === 'on' ? 'Turn off' : 'Turn on'}
          </button>
        )}
      </div>
      <p className="soft">{WORDS[state.data]}</p>
      <Problem error={turn.error} />
    </section>
  );
}
