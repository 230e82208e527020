import { QueryClient, QueryObserver } from '@tanstack/react-query';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { refreshDevices } from '../src/devices/devices';
import { follow } from '../src/lib/live';

/** A stream that the test speaks for. */
class Source extends EventTarget {
  static readonly CLOSED = 2;
  static last: Source;
  readyState = 1;
  onopen?: () => void;
  onerror?: () => void;

  constructor() {
    super();
    Source.last = this;
  }

  close(): void {}

  tell(name: string, data: object): void {
    this.dispatchEvent(new MessageEvent(name, { data: JSON.stringify(data) }));
  }
}

let client: QueryClient;
let reads: number;
let ends: (() => void)[];

beforeEach(async () => {
  vi.stubGlobal('EventSource', Source);
  client = new QueryClient({ defaultOptions: { queries: { staleTime: Number.POSITIVE_INFINITY } } });
  reads = 0;
  const queryFn = () => [{ id: 'cam-1', online: ++reads > 1 }];
  ends = [new QueryObserver(client, { queryKey: ['devices'], queryFn }).subscribe(() => undefined)];
  await expect.poll(() => reads).toBe(1);
});

afterEach(() => {
  for (const end of ends) end();
  vi.unstubAllGlobals();
});

test('who comes back reads the devices again: what came or went meanwhile is not told again', async () => {
  ends.push(follow(client, () => undefined));
  Source.last.onopen?.();
  Source.last.tell('ready', {});
  await expect.poll(() => reads).toBe(2);
  Source.last.onerror?.();
  Source.last.onopen?.();
  await expect.poll(() => reads).toBe(3);
});

test('when any device may have come or gone, all are read again', async () => {
  ends.push(follow(client, () => undefined));
  Source.last.tell('activity', { device_ids: [] });
  await expect.poll(() => reads).toBe(2);
});

test('when one device cannot be read, the list is read again, which tries more than once', async () => {
  vi.stubGlobal('fetch', () => Promise.reject(new TypeError('Failed to fetch')));
  await refreshDevices(client, ['cam-1']);
  expect(reads).toBe(2);
});
