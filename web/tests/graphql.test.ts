import { afterEach, expect, test, vi } from 'vitest';
import { ask, type Document } from '../src/lib/graphql';

const ASKED = 'query Me { login { id } }' as Document<{ login: { id: string } }, Record<string, never>>;
const never = (signal?: AbortSignal | null) =>
  new Promise<never>((_, reject) => {
    if (signal?.aborted) reject(signal.reason);
    else signal?.addEventListener('abort', () => reject(signal.reason));
  });

afterEach(() => {
  vi.restoreAllMocks();
  vi.unstubAllGlobals();
});

test.each([
  ['no answer', (init?: RequestInit) => never(init?.signal)],
  [
    'no end of the answer',
    async (init?: RequestInit) => ({ status: 200, headers: new Headers(), json: () => never(init?.signal) }),
  ],
])('there is a time limit: %s', async (_, answer) => {
  vi.spyOn(AbortSignal, 'timeout').mockReturnValue(AbortSignal.abort(new DOMException('late', 'TimeoutError')));
  vi.stubGlobal('fetch', (_url: string, init?: RequestInit) => answer(init));
  await expect(ask(ASKED)).rejects.toMatchObject({ code: 'TIMED_OUT' });
});

test('a server that cannot be reached is not one that is late', async () => {
  vi.stubGlobal('fetch', () => Promise.reject(new TypeError('Failed to fetch')));
  await expect(ask(ASKED)).rejects.toMatchObject({ code: 'OFFLINE' });
});
