import { useQuery } from '@tanstack/react-query';
import { type Device, nameOf, useDevices } from '../devices/devices';
import { OpenConnections } from '../generated';
import { ask } from '../lib/graphql';
import { Empty, Loading, Problem } from '../parts/Notice';
import { ConnectionLine } from './ConnectionLine';

const AGAIN_MS = 60_000; // that a gateway has been silent for long is told by nobody

export function useOpenConnections() {
  return useQuery({
    queryKey: ['connections', 'open'],
    queryFn: async () => (await ask(OpenConnections)).login?.connections.items ?? [],
    refetchInterval: ({ state }) => Boolean(state.data?.length) && AGAIN_MS,
  });
}

/** Who is connected right now, through the caller's devices and by himself. */
export function Connected() {
  const open = useOpenConnections();
  const devices = useDevices();
  const known = new Map<string | null, Device>(devices.data?.map((device) => [device.id, device]));
  return (
    <>
      <Problem error={open.error} />
      {open.isPending && <Loading what="connections" />}
      {open.data && !open.data.length && (
        <Empty title="Nobody is connected">
          <p>Connections to your devices appear here while they are open.</p>
        </Empty>
      )}
      {open.data && open.data.length > 0 && (
        <ul className="card share-lines" aria-label="Open connections">
          {open.data.map((connection) => {
            const device = known.get(connection.deviceId);
            return (
              <ConnectionLine
                key={connection.id}
                connection={connection}
                device={device}
                title={device ? nameOf(device) : (connection.deviceId ?? connection.serviceId)}
              />
            );
          })}
        </ul>
      )}
    </>
  );
}
