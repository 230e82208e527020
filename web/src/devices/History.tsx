import { useInfiniteQuery } from '@tanstack/react-query';
import { DeviceHistory, type DeviceHistoryQuery } from '../generated';
import { ask } from '../lib/graphql';
import { eventName, moment, termsInWords } from '../lib/words';
import { Loading, Problem } from '../parts/Notice';
import type { Device } from './devices';

type Page = NonNullable<DeviceHistoryQuery['login']>['deviceHistory'];

/** Who could do what with a device, since when, and by which event; the newest first. */
export function History({ device }: { device: Device }) {
  const history = useInfiniteQuery({
    queryKey: ['history', device.id],
    queryFn: async ({ pageParam }): Promise<Page> => {
      const { login } = await ask(DeviceHistory, { device: device.id, after: pageParam });
      return login?.deviceHistory ?? { items: [], next: null };
    },
    initialPageParam: null as string | null,
    getNextPageParam: (last) => last.next,
  });
  const items = history.data?.pages.flatMap((page) => page.items) ?? [];
  const names = new Map(device.services.map((service) => [service.id, service.name]));
  return (
    <section className="card">
      <div className="card-head">
        <h2>History</h2>
        {items.length > 0 && (
          <a className="button small" href={`/history/v1/${encodeURIComponent(device.id)}.csv`} download="history.csv">
            Download as CSV
          </a>
        )}
      </div>
      <Problem error={history.error} />
      {history.isPending && <Loading what="the history" />}
      {history.data && !items.length && <p className="soft">It was never shared.</p>}
      {items.length > 0 && (
        <div className="table-frame" tabIndex={0} role="region" aria-label="History">
          <table>
            <thead>
              <tr>
                <th scope="col">When</th>
                <th scope="col">What</th>
                <th scope="col">Who</th>
                <th scope="col">Terms</th>
                <th scope="col">Event</th>
              </tr>
            </thead>
            <tbody>
              {items.map((item) => (
                <tr key={item.version}>
                  <td className="nowrap">{moment(item.at)}</td>
                  <td>{eventName(item.kind, item.reason)}</td>
                  <td>
                    <bdi>{item.recipient?.name ?? item.email ?? item.phone ?? 'You'}</bdi>
                  </td>
                  <td className="soft">{item.terms ? termsInWords(item.terms, names) : ''}</td>
                  <td className="soft">{item.version}</td>
                </tr>
              ))}
            </tbody>
          </table>
        </div>
      )}
      {history.hasNextPage && (
        <button
          type="button"
          className="small more"
          disabled={history.isFetching}
          onClick={() => void history.fetchNextPage()}
        >
          Show more
        </button>
      )}
    </section>
  );
}
