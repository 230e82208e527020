import { Link } from 'wouter';
import { nameOf, useDevices } from '../devices/devices';
import { KindIcon } from '../parts/Icon';
import { Empty, Loading, Problem } from '../parts/Notice';
import { isLive, type PastShare, usePastShares } from './given';
import { ShareLine } from './ShareLine';

/** Every device that the caller shares, with whom. */
export function ByDevice() {
  const { shares, error, isPending } = usePastShares(true);
  const devices = useDevices();
  const live = shares.filter(isLive);
  const byDevice = new Map<string, PastShare[]>();
  for (const share of live) byDevice.set(share.deviceId, [...(byDevice.get(share.deviceId) ?? []), share]);
  const groups = [...byDevice].map(([id, list]) => ({
    id,
    list,
    device: devices.data?.find((item) => item.id === id),
    name: list[0]?.deviceName ?? id,
  }));
  groups.sort((one, other) => one.name.localeCompare(other.name));
  return (
    <>
      <Problem error={error} />
      {isPending && <Loading what="your shares" />}
      {!isPending && !groups.length && !error && <Empty title="No device is shared now" />}
      <ul className="people" aria-label="Devices">
        {groups.map(({ id, list, device, name }) => (
          <li className="card" key={id}>
            <h2 className="card-title">
              <span className="kind">
                <KindIcon kind={device?.kind ?? null} />
              </span>
              <Link href={`/devices/${encodeURIComponent(id)}`}>
                <bdi>{device ? nameOf(device) : name}</bdi>
              </Link>
            </h2>
            <ul className="share-lines">
              {list.map((share) => {
                const address = share.email ?? share.phone ?? '';
                const person = share.recipient?.name ?? address;
                return (
                  <ShareLine
                    key={share.id}
                    share={{ ...share, address }}
                    device={device}
                    titleWords={`${name} with ${person}`}
                    title={
                      <>
                        <bdi className="strong">{person}</bdi>
                        {person !== address && <span className="soft"> {address}</span>}
                      </>
                    }
                  />
                );
              })}
            </ul>
          </li>
        ))}
      </ul>
    </>
  );
}
