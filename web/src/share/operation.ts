// A bulk share on its way. It is kept for the tab until its outcome was read, so that a reload loses nothing: the
// same operation sent again goes on where it stopped and doubles nothing.
import { ShareBulk, type ShareBulkMutation, type ShareBulkMutationVariables } from '../generated';
import { ask, Refusal } from '../lib/graphql';
import { page } from '../lib/page';

export type Item = ShareBulkMutation['shareBulk']['items'][number];

/** `parts` share different devices in different ways; the names are for telling the outcome. */
export interface Operation {
  readonly parts: readonly ShareBulkMutationVariables[];
  readonly deviceNames: Readonly<Record<string, string>>;
  readonly recipientNames: Readonly<Record<string, string>>;
}

const KEY = `latchkey.operation.${page.account}`;
const PAUSES_MS = [500, 1000, 2000, 4000];
const MOST_LIMITED = 10; // times in a row that the server asks for patience: each is a minute at most
const PASSING: ReadonlySet<string> = new Set(['OFFLINE', 'UNAVAILABLE', 'TIMED_OUT', 'INTERNAL', 'NOT_YET_VISIBLE']);

export function keep(operation: Operation): void {
  try {
    sessionStorage.setItem(KEY, JSON.stringify(operation));
  } catch {
    // Without room or permission to keep it, it is done all the same, in this page.
  }
}

/** What a reload has interrupted, if something has. */
export function keptOperation(): Operation | null {
  try {
    return JSON.parse(sessionStorage.getItem(KEY) ?? 'null') as Operation | null;
  } catch {
    return null;
  }
}

export function forget(): void {
  try {
    sessionStorage.removeItem(KEY);
  } catch {
    // Nothing was kept.
  }
}

/** A name under which an operation runs once. */
export function newOperationId(): string {
  return crypto.randomUUID();
}

/** Do it, part by part; `onItems` is told the outcomes so far. Failures that pass are tried again.
 * Throws `Refusal` when a part is refused as a whole, or when the server stays away. */
export async function run(
  operation: Operation,
  onItems: (items: readonly Item[]) => void,
  onWaiting: (waits: boolean) => void,
): Promise<readonly Item[]> {
  const items: Item[] = [];
  for (const part of operation.parts) {
    items.push(...(await runPart(part, onWaiting)));
    onItems([...items]);
  }
  return items;
}

async function runPart(part: ShareBulkMutationVariables, onWaiting: (waits: boolean) => void): Promise<readonly Item[]> {
  for (let attempt = 0, limited = 0; ; ) {
    try {
      const { shareBulk } = await ask(ShareBulk, part);
      onWaiting(false);
      return shareBulk.items;
    } catch (error) {
      if (!(error instanceof Refusal)) throw error;
      let pause: number | undefined;
      if (error.code === 'RATE_LIMITED' && limited++ < MOST_LIMITED)
        pause = 1000 * Number(error.details.retryAfterSeconds ?? 1);
      else if (PASSING.has(error.code)) pause = PAUSES_MS[attempt++];
      if (pause === undefined) throw error;
      onWaiting(true);
      await new Promise((resolve) => setTimeout(resolve, pause));
    }
  }
}

/** What shares again, with the same terms, exactly the pairs that were refused. */
export function retryOf(operation: Operation, items: readonly Item[]): Operation {
  const parts: ShareBulkMutationVariables[] = [];
  for (const part of operation.parts) {
    const devicesOf = new Map<string, string[]>();
    for (const recipient of part.recipients) {
      const failed = items.filter(
        (item) => item.outcome === 'REFUSED' && item.recipient === recipient && part.devices.includes(item.deviceId),
      );
      if (failed.length) devicesOf.set(recipient, [...new Set(failed.map((item) => item.deviceId))]);
    }
    const alike = new Map<string, { devices: string[]; recipients: string[] }>();
    for (const [recipient, devices] of devicesOf) {
      const key = devices.join();
      const group = alike.get(key) ?? { devices, recipients: [] };
      alike.set(key, group);
      group.recipients.push(recipient);
    }
    for (const group of alike.values()) parts.push({ ...part, ...group, operation: newOperationId() });
  }
  return { ...operation, parts };
}
