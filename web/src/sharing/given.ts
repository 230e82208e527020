// The shares that the caller gives, by person and by device.
import { useInfiniteQuery, useQuery, useQueryClient } from '@tanstack/react-query';
import { useEffect } from 'react';
import { GivenShares, PastShares, type PastSharesQuery } from '../generated';
import { ask } from '../lib/graphql';

type Page = NonNullable<PastSharesQuery['login']>['pastShares'];
export type PastShare = Page['items'][number];

/** Every share that the caller gave (or had, when not `given`), read page by page. */
export function usePastShares(given: boolean) {
  const pages = useInfiniteQuery({
    queryKey: ['pastShares', given],
    queryFn: async ({ pageParam }): Promise<Page> => {
      const { login } = await ask(PastShares, { given, after: pageParam });
      return login?.pastShares ?? { items: [], next: null };
    },
    initialPageParam: null as string | null,
    getNextPageParam: (last) => last.next,
  });
  const { hasNextPage, isFetching, fetchNextPage } = pages;
  useEffect(() => {
    if (hasNextPage && !isFetching) void fetchNextPage();
  }, [hasNextPage, isFetching, fetchNextPage]);
  return { ...pages, shares: pages.data?.pages.flatMap((page) => page.items) ?? [] };
}

/** The live shares of one of the caller's devices, as its editor needs them. */
export function useGivenShares(device: string) {
  return useQuery({
    queryKey: ['given', device],
    queryFn: async () => (await ask(GivenShares, { device })).login?.shares ?? [],
  });
}

/** Have everything about shares read again. */
export function useSharesChanged(): () => Promise<void> {
  const client = useQueryClient();
  return async () => {
    await Promise.all(['pastShares', 'given', 'history', 'connections'].map((about) =>
      client.invalidateQueries({ queryKey: [about] }),
    ));
  };
}

export interface Person {
  /** E-mail address or telephone number: what commands name him by. */
  readonly address: string;
  readonly name: string | null;
  readonly live: readonly PastShare[];
  readonly ended: readonly PastShare[];
}

export function isLive(share: PastShare): boolean {
  return share.state === 'active' || share.state === 'requested';
}

/** The people behind shares, those with live ones first, then by address. */
export function peopleOf(shares: readonly PastShare[]): Person[] {
  const people = new Map<string, { address: string; name: string | null; live: PastShare[]; ended: PastShare[] }>();
  for (const share of shares) {
    const address = share.email ?? share.phone;
    if (!address) continue;
    const person = people.get(address) ?? { address, name: null, live: [], ended: [] };
    people.set(address, person);
    person.name ??= share.recipient?.name ?? null;
    (isLive(share) ? person.live : person.ended).push(share);
  }
  return [...people.values()].sort(
    (one, other) =>
      Number(other.live.length > 0) - Number(one.live.length > 0) || one.address.localeCompare(other.address),
  );
}
