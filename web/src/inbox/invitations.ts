// What the caller may accept now, and which of it he has put off: on whichever device, the notifier keeps it.
import { useMutation, useQuery, useQueryClient } from '@tanstack/react-query';
import { Invitations, type InvitationsQuery, Invited, type InvitedQuery, PutOff } from '../generated';
import { ask, Refusal } from '../lib/graphql';

type Told = NonNullable<InvitationsQuery['login']>;
type Entry = NonNullable<InvitedQuery['login']>['inbox']['items'][number];
export type Invitation = Told['invitations'][number] & { readonly later: boolean };
interface Inbox {
  readonly invitations: readonly Invitation[];
  readonly alwaysAccepted: Told['alwaysAccepted'];
}

export const INVITATIONS_KEY = ['invitations'];
export const INVITING: ReadonlySet<string> = new Set(['invitation', 'invitation_changed']);
const AGAIN_MS = 5000; // the feed does not tell what was put off elsewhere
const MOST_PAGES = 10; // of notices, through which an invitation is looked for
const LONGEST_MS = 89 * 24 * 3600 * 1000; // the notifier takes 90 days
const TRIES = 6; // an invitation may be seen a moment before its notice is written
const PAUSE_MS = 500;

/** The notices that tell of these shares' invitations, the newest first. */
async function entriesOf(shares: ReadonlySet<string>): Promise<readonly Entry[]> {
  const missing = new Set(shares);
  const found: Entry[] = [];
  let after: string | null = null;
  for (let page = 0; page < MOST_PAGES && missing.size; page++) {
    const inbox: NonNullable<InvitedQuery['login']>['inbox'] | undefined = (await ask(Invited, { after })).login?.inbox;
    for (const item of inbox?.items ?? []) {
      if (!INVITING.has(item.kind) || !shares.has(item.shareId)) continue;
      found.push(item);
      missing.delete(item.shareId);
    }
    after = inbox?.next ?? null;
    if (after === null) break;
  }
  return found;
}

/** Those whose newest notice is put off: new terms, and an invitation that is sent again, are a new question. */
export function laterOf(entries: readonly Pick<Entry, 'shareId' | 'laterUntil'>[], now: number): ReadonlySet<string> {
  const newest = new Map<string, string | null>();
  for (const { shareId, laterUntil } of entries) if (!newest.has(shareId)) newest.set(shareId, laterUntil);
  return new Set([...newest].filter(([, until]) => until !== null && Date.parse(until) > now).map(([share]) => share));
}

async function readInbox(): Promise<Inbox> {
  const { login } = await ask(Invitations);
  const open = login?.invitations ?? [];
  // Without the notifier, what was put off waits like the rest: better than an inbox that shows nothing.
  const entries = open.length ? await entriesOf(new Set(open.map((item) => item.id))).catch(() => []) : [];
  const later = laterOf(entries, Date.now());
  return {
    invitations: open.map((item) => ({ ...item, later: later.has(item.id) })),
    alwaysAccepted: login?.alwaysAccepted ?? [],
  };
}

/** `shown`: on a page where invitations wait to be answered. */
export function useInvitations({ shown = false } = {}) {
  return useQuery({
    queryKey: INVITATIONS_KEY,
    queryFn: readInbox,
    refetchInterval: ({ state }) => shown && Boolean(state.data?.invitations.length) && AGAIN_MS,
  });
}

/** Put an invitation off. It stays in the inbox, and is not counted as waiting, here and on other devices. */
export function useDecideLater() {
  const client = useQueryClient();
  return useMutation({
    mutationFn: async ({ id, expiresAt }: Invitation) => {
      const ends = Math.min(expiresAt ? Date.parse(expiresAt) : Infinity, Date.now() + LONGEST_MS);
      for (let attempt = 1; ; attempt++) {
        const ids = (await entriesOf(new Set([id]))).map((entry) => entry.id);
        if (ids.length) return ask(PutOff, { ids, until: new Date(ends).toISOString() });
        if (attempt === TRIES) throw new Refusal('UNAVAILABLE', 'The notice of it is not there.');
        await new Promise((resolve) => setTimeout(resolve, PAUSE_MS));
      }
    },
    onSettled: () => client.invalidateQueries({ queryKey: INVITATIONS_KEY }),
  });
}
