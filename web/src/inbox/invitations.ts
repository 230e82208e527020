// What the caller may accept now, and which of it he has put off.
import { useQuery } from '@tanstack/react-query';
import { useSyncExternalStore } from 'react';
import { Invitations, type InvitationsQuery } from '../generated';
import { ask } from '../lib/graphql';
import { page } from '../lib/page';

export type Invitation = NonNullable<InvitationsQuery['login']>['invitations'][number];

export const INVITATIONS_KEY = ['invitations'];
const LATER = `latchkey.later.${page.account}`;

export function useInvitations() {
  return useQuery({
    queryKey: INVITATIONS_KEY,
    queryFn: async () => {
      const { login } = await ask(Invitations);
      return { invitations: login?.invitations ?? [], alwaysAccepted: login?.alwaysAccepted ?? [] };
    },
  });
}

let putOff: ReadonlySet<string> = new Set(read());
const listeners = new Set<() => void>();

function read(): string[] {
  try {
    return JSON.parse(localStorage.getItem(LATER) ?? '[]') as string[];
  } catch {
    return [];
  }
}

function nameFor(item: Invitation): string {
  return `${item.id} ${item.invitationVersion}`; // new terms are a new question
}

function listen(listener: () => void): () => void {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

/** Tells which invitations were put off; those stay in the inbox, and are not counted as waiting. */
export function useLater(): (item: Invitation) => boolean {
  const names = useSyncExternalStore(listen, () => putOff);
  return (item) => names.has(nameFor(item));
}

export function decideLater(item: Invitation, open: readonly Invitation[]): void {
  const known = new Set(open.map(nameFor));
  putOff = new Set([...putOff].filter((name) => known.has(name))).add(nameFor(item));
  try {
    localStorage.setItem(LATER, JSON.stringify([...putOff]));
  } catch {
    // It is put off for as long as this page is open.
  }
  for (const listener of listeners) listener();
}
