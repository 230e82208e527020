import { QueryClient, QueryObserver } from '@tanstack/react-query';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { refreshDevices } from '../src/devices/devices';
import { follow } from '../src/lib/live';
import { page } from '../src/lib/page';

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

  closed = false;

  close(): void {
    this.closed = true;
  }

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
  vi.useRealTimers();
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

test('who is signed out is led to sign in, and does not come again', () => {
  const signIn = vi.spyOn(page, 'signIn').mockImplementation(() => undefined);
  ends.push(follow(client, () => undefined));
  Source.last.tell('signed_out', {});
  expect(signIn).toHaveBeenCalledOnce();
  expect(Source.last.closed).toBe(true);
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

test('a change of notices has them and what is put off read again, and nothing else', async () => {
  let notices = 0;
  const queryFn = () => ++notices;
  ends.push(new QueryObserver(client, { queryKey: ['notices', 'unread'], queryFn }).subscribe(() => undefined));
  await expect.poll(() => notices).toBe(1);
  ends.push(follow(client, () => undefined));
  Source.last.tell('notices', {});
  await expect.poll(() => notices).toBe(2);
  expect(reads).toBe(1);
});

test('who comes back reads again what is told of once only, such as contacts and keys', async () => {
  const read: string[] = [];
  for (const about of ['contacts', 'keys', 'invitations', 'connections']) {
    const queryFn = () => read.push(about);
    ends.push(new QueryObserver(client, { queryKey: [about], queryFn }).subscribe(() => undefined));
  }
  await expect.poll(() => read.length).toBe(4);
  ends.push(follow(client, () => undefined));
  Source.last.onopen?.();
  Source.last.onerror?.();
  Source.last.onopen?.();
  await expect.poll(() => read.slice(4).sort()).toEqual(['connections', 'contacts', 'invitations', 'keys']);
});

test('a stream that has gone silent is opened anew, and said to be lost when that does not help', async () => {
  vi.useFakeTimers();
  const connected: boolean[] = [];
  ends.push(follow(client, (stands) => connected.push(stands)));
  const first = Source.last;
  first.onopen?.();
  for (let second = 0; second < 120; second += 15) {
    await vi.advanceTimersByTimeAsync(15_000);
    first.tell('alive', {});
  }
  expect(Source.last).toBe(first);
  await vi.advanceTimersByTimeAsync(39_000);
  expect(Source.last).toBe(first);
  await vi.advanceTimersByTimeAsync(2_000);
  expect(Source.last).not.toBe(first);
  expect(first.closed).toBe(true);
  expect(connected).toEqual([true]);
  await vi.advanceTimersByTimeAsync(5_000); // the new one does not stand
  expect(connected).toEqual([true, false]);
  const second = Source.last;
  await vi.advanceTimersByTimeAsync(40_000); // nor does it fail: it is tried again
  expect(Source.last).not.toBe(second);
  Source.last.onopen?.();
  expect(connected).toEqual([true, false, true]);
});
