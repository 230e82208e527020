// What the caller may accept now, and which of it he has put off: on whichever device, the notifier keeps it.
import { keepPreviousData, useMutation, useQuery, useQueryClient } from '@tanstack/react-query';
import { Invitations, type InvitationsQuery, Invited, type InvitedQuery, PutOff } from '../generated';
import { ask, Refusal } from '../lib/graphql';
import { useTime } from '../lib/moments';

type Told = NonNullable<InvitationsQuery['login']>;
type Entry = NonNullable<InvitedQuery['login']>['inbox']['items'][number];
export type Invitation = Told['invitations'][number] & { readonly later: boolean };

export const INVITATIONS_KEY = ['invitations'];
export const INVITING: ReadonlySet<string> = new Set(['invitation', 'invitation_changed']);
/** Below what is read again when notices are told of. */
const PUT_OFF_KEY = ['notices', 'invited'];
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

/** Invitations as the read API has them, and which of them are put off as the notifier has it. */
export function useInvitations() {
  const told = useQuery({ queryKey: INVITATIONS_KEY, queryFn: async () => (await ask(Invitations)).login });
  const shares = (told.data?.invitations ?? []).map((item) => item.id).sort();
  const entries = useQuery({
    queryKey: [...PUT_OFF_KEY, shares],
    queryFn: () => entriesOf(new Set(shares)),
    enabled: shares.length > 0,
    placeholderData: keepPreviousData, // what is known of the others holds while another comes or goes
  });
  const ends = (entries.data ?? []).flatMap(({ laterUntil }) => (laterUntil ? [Date.parse(laterUntil)] : []));
  const later = laterOf(entries.data ?? [], useTime(ends));
  return {
    error: told.error,
    // Without the notifier, what was put off waits like the rest: better than an inbox that shows nothing.
    isPending: told.isPending || entries.isLoading,
    invitations: (told.data?.invitations ?? []).map((item) => ({ ...item, later: later.has(item.id) })),
    alwaysAccepted: told.data?.alwaysAccepted ?? [],
  };
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
    onSettled: () => client.invalidateQueries({ queryKey: PUT_OFF_KEY }),
  });
}
