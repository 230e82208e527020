// The caller's devices, own and shared: read in pages, kept as one list, mended as changes are told.
import { type QueryClient, useQuery, useQueryClient } from '@tanstack/react-query';
import { useEffect } from 'react';
import { DevicePage, type DeviceRowFragment, DevicesById } from '../generated';
import { ask } from '../lib/graphql';
import { readAgain, settled } from '../lib/settled';

/** `beginsAt`: when, by this browser's clock, a share begins that gives the caller more of it. */
export type Device = DeviceRowFragment & { readonly beginsAt: number | null };

const KEY = ['devices'];
const FIRST_PAGE = 100; // what fills a screen comes first
const PAGE = 500;
const MOST_BY_ID = 100;
const SOONEST_MS = 1000; // between two looks at whether a share has begun
const LONGEST_MS = 2 ** 31 - 1; // a timer takes no more

/** What comes in so many seconds by the server's clock comes at a time of ours. */
function timed(device: DeviceRowFragment): Device {
  return { ...device, beginsAt: device.beginsIn === null ? null : Date.now() + 1000 * device.beginsIn };
}

async function readAll(client: QueryClient): Promise<readonly Device[]> {
  const devices = new Map<string, Device>();
  const shown = client.getQueryData(KEY) !== undefined;
  for (let from = 0; ; ) {
    const size = from ? PAGE : FIRST_PAGE;
    const { login } = await ask(DevicePage, { from, size });
    const page = login?.devices;
    for (const device of page?.items ?? []) devices.set(device.id, timed(device));
    if (!page?.hasMore) return [...devices.values()];
    if (!shown) client.setQueryData(KEY, [...devices.values()]);
    from += size;
  }
}

const DEVICES = { queryKey: KEY, queryFn: ({ client }: { client: QueryClient }) => readAll(client) };

export function useDevices() {
  return useQuery<readonly Device[]>(DEVICES);
}

/** Read devices again as shares of them begin: that is a matter of time, and told by nobody. */
export function useBeginnings(): void {
  const client = useQueryClient();
  const { data } = useQuery<readonly Device[]>({ ...DEVICES, enabled: false });
  useEffect(() => {
    const next = Math.min(...(data ?? []).map((device) => device.beginsAt ?? Infinity));
    if (next === Infinity) return;
    const due = () => data?.filter((device) => device.beginsAt !== null && device.beginsAt <= next + SOONEST_MS) ?? [];
    const pause = Math.min(Math.max(next - Date.now(), SOONEST_MS), LONGEST_MS);
    const timer = setTimeout(() => void refreshDevices(client, due().map((device) => device.id)), pause);
    return () => clearTimeout(timer);
  }, [client, data]);
}

/** One device of the list; undefined while it is being read, null when there is none of that id. */
export function useDevice(id: string): Device | null | undefined {
  const devices = useDevices();
  const found = devices.data?.find((device) => device.id === id);
  return found ?? (devices.isFetching || devices.isError ? undefined : null);
}

/** These may look different now; none named: the list itself may. */
export async function refreshDevices(client: QueryClient, ids: readonly string[]): Promise<void> {
  const known = client.getQueryData<readonly Device[]>(KEY);
  const listed = new Set(known?.map((device) => device.id));
  if (!known || !ids.length || ids.length > MOST_BY_ID || ids.some((id) => !listed.has(id)))
    return known ? client.invalidateQueries({ queryKey: KEY }) : readAgain(client, KEY);
  await settled(client, KEY); // a list that is on its way would put the older state back
  const answer = await ask(DevicesById, { ids }).catch(() => undefined);
  if (!answer) return client.invalidateQueries({ queryKey: KEY }); // which tries again, and says what is wrong
  const read = new Map(answer.login?.device.map((device) => [device.id, timed(device)]));
  client.setQueryData<readonly Device[]>(KEY, (before) =>
    before?.flatMap((device) => (ids.includes(device.id) ? (read.get(device.id) ?? []) : device)),
  );
}

/** What the caller calls it. */
export function nameOf(device: Pick<Device, 'name' | 'alias'>): string {
  return device.alias ?? device.name;
}

export type Filter = 'all' | 'own' | 'in' | 'out' | 'none';
export type Order = 'name' | 'newest' | 'kind' | 'online';

const PASSES: Record<Filter, (device: Device) => boolean> = {
  all: () => true,
  own: (device) => device.owned,
  in: (device) => !device.owned,
  out: (device) => device.shareState === 'out' || device.shareState === 'both',
  none: (device) => device.shareState === 'none',
};

const collator = new Intl.Collator('en', { numeric: true, sensitivity: 'base' });
const byName = (one: Device, other: Device) => collator.compare(nameOf(one), nameOf(other));

const ORDERS: Record<Order, (one: Device, other: Device) => number> = {
  name: byName,
  newest: (one, other) => (other.created ?? '').localeCompare(one.created ?? '') || byName(one, other),
  kind: (one, other) => collator.compare(one.kind ?? '', other.kind ?? '') || byName(one, other),
  online: (one, other) => Number(other.online) - Number(one.online) || byName(one, other),
};

/** The devices that pass, in order; each word of `words` stands in a name, kind, service or person of it. */
export function chosen(
  devices: readonly Device[],
  { words, filter, order }: { words: string; filter: Filter; order: Order },
): Device[] {
  const wanted = words.toLocaleLowerCase().split(/\s+/).filter(Boolean);
  return devices
    .filter((device) => PASSES[filter](device) && wanted.every((word) => told(device).includes(word)))
    .sort(ORDERS[order]);
}

function told(device: Device): string {
  const { name, alias, kind, owner, sharedWith, services } = device;
  return [name, alias, kind, owner.name, owner.email, ...sharedWith.first, ...services.map((item) => item.name)]
    .join('\n')
    .toLocaleLowerCase();
}

/** Who shares it with whom, as the Share icon tells it. */
export function sharingInWords(device: Device): string {
  const parts: string[] = [];
  if (device.shareState === 'in' || device.shareState === 'both')
    parts.push(`Shared with you by ${device.owner.name ?? device.owner.email ?? 'its owner'}`);
  const { accepted, invited, first } = device.sharedWith;
  if (accepted + invited) {
    const known = first.slice(0, 3).filter(Boolean);
    const others = accepted + invited - known.length;
    const names = [...known, ...(others ? [known.length ? `${others} more` : `${others} people`] : [])];
    const last = names.length > 1 ? ` and ${names.at(-1)}` : '';
    const people = (names.length > 1 ? names.slice(0, -1).join(', ') : (names[0] ?? '')) + last;
    const waiting = invited ? (accepted ? ` (${invited} not accepted yet)` : ' (not accepted yet)') : '';
    parts.push(`Shared by you with ${people}${waiting}`);
  }
  return parts.length ? parts.join('. ') : 'Not shared';
}

export function kindName(device: Pick<Device, 'kind'>): string {
  const words = (device.kind ?? 'device').replaceAll('_', ' ');
  return words.charAt(0).toUpperCase() + words.slice(1);
}
