// The caller's contact book: whom he has shared with, added or scanned.
import { useQuery } from '@tanstack/react-query';
import { AddContact, Contacts, type ContactsQuery } from '../generated';
import { ask, Refusal } from '../lib/graphql';
import { refusalInWords } from '../lib/words';

export type Contact = NonNullable<ContactsQuery['login']>['contacts'][number];

export const CONTACTS_KEY = ['contacts'];
const AT_ONCE = 4;
export const MOST_PASTED = 200;

export function useContacts() {
  return useQuery({
    queryKey: CONTACTS_KEY,
    queryFn: async () => (await ask(Contacts)).login?.contacts ?? [],
    staleTime: 0, // no event tells of the book
  });
}

export function addressOf(contact: Pick<Contact, 'email' | 'phone'>): string {
  return contact.email ?? contact.phone ?? '';
}

/** A contact as lists name it. */
export function contactName(contact: Contact): string {
  return contact.name ?? addressOf(contact);
}

/** The addresses in a text that somebody pasted: one a line, or separated by commas or semicolons. */
export function addressesIn(text: string): string[] {
  const parts = text.split(/[\n,;\t]+/).map((part) => /<([^<>]+@[^<>]+)>/.exec(part)?.[1] ?? part);
  return [...new Set(parts.flatMap(separate).filter(Boolean))];
}

/** Spaces separate e-mail addresses, and stand inside telephone numbers. */
function separate(part: string): string[] {
  const text = part.trim();
  return text.includes('@') ? text.split(/\s+/) : [text];
}

export interface Added {
  readonly ids: readonly string[];
  readonly failed: readonly { readonly address: string; readonly why: string }[];
}

/** Put addresses into the book; each that cannot be one is told with why. */
export async function addAll(addresses: readonly string[]): Promise<Added> {
  const ids: string[] = [];
  const failed: { address: string; why: string }[] = [];
  const left = [...addresses];
  const work = async () => {
    for (let address = left.shift(); address !== undefined; address = left.shift()) {
      try {
        ids.push((await ask(AddContact, { recipient: address })).addContact);
      } catch (error) {
        failed.push({ address, why: error instanceof Refusal ? refusalInWords(error) : String(error) });
      }
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, work));
  return { ids, failed };
}
