// Asks the portal. A change's position goes with the reads that follow, so that none shows the state before it.
import { page } from './page';

/** A GraphQL document that answers `Answer` for `Variables`. */
export type Document<Answer, Variables> = string & { readonly answer?: Answer; readonly variables?: Variables };

/** A refusal: a stable code, and what a person may read. */
export class Refusal extends Error {
  constructor(
    readonly code: string,
    message: string,
    readonly details: Readonly<Record<string, unknown>> = {},
  ) {
    super(message);
  }
}

interface Answered<Answer> {
  data?: Answer | null;
  errors?: { message: string; extensions?: { code?: string } & Record<string, unknown> }[];
}

const MOST_POSITIONS = 100; // more are refused
const TRIES = 5;
/** Who gets no answer is told so. A change may take longer: the portal gives a bulk share a minute. */
const LIMIT_MS = { read: 30_000, change: 75_000 };

/** Device → the version that the next reads must show. */
const positions = new Map<string, number>();

/** Remember a `Latchkey-Position`, such as `cam-1@7, cam-2@3`. */
export function remember(header: string | null): void {
  for (const part of (header ?? '').split(',')) {
    const at = part.lastIndexOf('@');
    if (at < 0) continue;
    const device = part.slice(0, at).trim();
    const version = Number(part.slice(at + 1));
    positions.delete(device); // the newest stand last
    if (Number.isSafeInteger(version)) positions.set(device, Math.max(version, positions.get(device) ?? 0));
  }
  for (const device of [...positions.keys()].slice(0, Math.max(0, positions.size - MOST_POSITIONS)))
    positions.delete(device);
}

function forget(sent: ReadonlyMap<string, number>): void {
  for (const [device, version] of sent) if (positions.get(device) === version) positions.delete(device);
}

/** The answer's data; throws `Refusal`. Signed out, the page leads through sign-in and back. */
export async function ask<Answer, Variables extends Record<string, unknown>>(
  document: Document<Answer, Variables>,
  ...[variables]: Record<string, never> extends Variables ? [Variables?] : [Variables]
): Promise<Answer> {
  const reads = document.startsWith('query');
  for (let attempt = 1; ; attempt++) {
    const sent = new Map(reads ? positions : []);
    const answer = await post<Answer>(document, variables, sent, LIMIT_MS[reads ? 'read' : 'change']);
    const refused = answer.errors?.[0];
    if (!refused && answer.data) {
      forget(sent);
      return answer.data;
    }
    const { code = 'INTERNAL', ...details } = refused?.extensions ?? {};
    if (code === 'NOT_YET_VISIBLE' && attempt < TRIES) {
      if (attempt === TRIES - 1) forget(sent); // better a moment late than not at all
      continue;
    }
    throw new Refusal(code, refused?.message ?? 'The answer was empty.', details);
  }
}

async function post<Answer>(
  query: string,
  variables: Record<string, unknown> | undefined,
  after: ReadonlyMap<string, number>,
  limit: number,
): Promise<Answered<Answer>> {
  const headers: Record<string, string> = { 'Content-Type': 'application/json', 'Latchkey-CSRF': page.csrf };
  if (after.size) headers['Latchkey-Position'] = [...after].map(([device, at]) => `${device}@${at}`).join(', ');
  const body = JSON.stringify({ query, variables });
  const signal = AbortSignal.timeout(limit);
  let answer: Response;
  try {
    answer = await fetch('/graphql/v1', { method: 'POST', headers, body, credentials: 'same-origin', signal });
  } catch {
    throw signal.aborted ? tooLate() : new Refusal('OFFLINE', 'The server cannot be reached.');
  }
  if (answer.status === 401 || answer.status === 403) {
    page.signIn();
    throw new Refusal('UNAUTHENTICATED', 'Your sign-in has ended.');
  }
  remember(answer.headers.get('Latchkey-Position'));
  try {
    return (await answer.json()) as Answered<Answer>;
  } catch {
    throw signal.aborted ? tooLate() : new Refusal('UNAVAILABLE', 'The server did not answer as it should.');
  }
}

function tooLate(): Refusal {
  return new Refusal('TIMED_OUT', 'The server did not answer in time.');
}
