import type { QueryClient, QueryKey } from '@tanstack/react-query';

/** Once nothing (of this key) is being read: what is on its way may be older than what one has heard. */
export async function settled(client: QueryClient, queryKey?: QueryKey): Promise<void> {
  const reads = () => client.isFetching(queryKey && { queryKey }) > 0;
  if (!reads()) return;
  await new Promise<void>((resolve) => {
    const stop = client.getQueryCache().subscribe(() => {
      if (reads()) return;
      stop();
      resolve();
    });
  });
}

/** Read it (or everything) again; a first reading that is on its way does not pass for that. */
export async function readAgain(client: QueryClient, queryKey?: QueryKey): Promise<void> {
  await settled(client, queryKey);
  await client.invalidateQueries(queryKey && { queryKey });
}
