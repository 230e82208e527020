import { afterEach, expect, test, vi } from 'vitest';
import { type Item, type Operation, retryOf, run } from '../src/share/operation';

const part = {
  operation: 'first',
  devices: ['a', 'b'],
  recipients: ['contact:1', 'contact:2'],
  services: null,
  permissions: ['CONNECT' as const],
  scripting: true,
  notify: false,
  startsAt: null,
  endsAt: '2030-01-01T00:00:00.000Z',
  message: 'hello',
};
const operation: Operation = { parts: [part], deviceNames: {}, recipientNames: {} };

function item(deviceId: string, recipient: string, outcome: Item['outcome']): Item {
  return { deviceId, recipient, outcome, code: outcome === 'REFUSED' ? 'LIMIT_REACHED' : null, message: null };
}

test('a retry shares exactly what was refused, on the same terms, as another operation', () => {
  const { parts } = retryOf(operation, [
    item('a', 'contact:1', 'REFUSED'),
    item('a', 'contact:2', 'REQUESTED'),
    item('b', 'contact:1', 'REFUSED'),
    item('b', 'contact:2', 'REFUSED'),
  ]);
  const pairs = parts.flatMap((again) => again.devices.flatMap((d) => again.recipients.map((r) => `${d} ${r}`)));
  expect(pairs.sort()).toEqual(['a contact:1', 'b contact:1', 'b contact:2']);
  for (const again of parts) {
    expect(again).toMatchObject({ permissions: ['CONNECT'], scripting: true, notify: false, message: 'hello' });
    expect(again.operation).not.toBe('first');
  }
});

test('who failed on the same devices is asked for together', () => {
  const failed = ['a', 'b'].flatMap((d) => ['contact:1', 'contact:2'].map((r) => item(d, r, 'REFUSED')));
  expect(retryOf(operation, failed).parts).toHaveLength(1);
});

afterEach(() => {
  vi.useRealTimers();
  vi.unstubAllGlobals();
});

test('whoever shares more than a minute takes waits for the next one, and goes on', async () => {
  vi.useFakeTimers();
  const limited = { errors: [{ message: '', extensions: { code: 'RATE_LIMITED', retryAfterSeconds: 40 } }], data: null };
  const done = { data: { shareBulk: { items: [item('a', 'contact:1', 'REQUESTED')] } } };
  const answers = [limited, limited, done];
  vi.stubGlobal('fetch', async () => Response.json(answers.shift()));
  const waits: boolean[] = [];
  const running = run(operation, () => undefined, (waiting) => waits.push(waiting));
  await vi.advanceTimersByTimeAsync(80_000);
  expect(answers).toEqual([]);
  expect(await running).toHaveLength(1);
  expect(waits).toEqual([true, true, false]);
});
