import { useWindowVirtualizer } from '@tanstack/react-virtual';
import { memo, useLayoutEffect, useRef, useState } from 'react';
import { Link } from 'wouter';
import { camerasOf } from '../live/streams';
import { KindIcon } from '../parts/Icon';
import { ShareIcon } from '../parts/ShareIcon';
import { type Device, kindName, nameOf } from './devices';

const ROW = 76; // pixels that a row has before it is measured
const OVERSCAN = 8;

interface Props {
  devices: readonly Device[];
  ticked: ReadonlySet<string>;
  onTick: (id: string, on: boolean) => void;
  onConnect: (device: Device) => void;
  onWatch: (device: Device) => void;
}

/** Thousands of devices, of which only those on the screen are drawn. */
export function DeviceList({ devices, ticked, onTick, onConnect, onWatch }: Props) {
  const list = useRef<HTMLUListElement>(null);
  const [top, setTop] = useState(0);
  useLayoutEffect(() => setTop(list.current?.offsetTop ?? 0), []);
  const rows = useWindowVirtualizer({
    count: devices.length,
    estimateSize: () => ROW,
    overscan: OVERSCAN,
    scrollMargin: top,
    getItemKey: (index) => devices[index]?.id ?? index,
  });
  return (
    <ul className="devices" ref={list} style={{ height: rows.getTotalSize() }} aria-label="Devices">
      {rows.getVirtualItems().map((row) => {
        const device = devices[row.index];
        if (!device) return null;
        return (
          <li
            key={row.key}
            ref={rows.measureElement}
            data-index={row.index}
            aria-setsize={devices.length}
            aria-posinset={row.index + 1}
            style={{ transform: `translateY(${row.start - top}px)` }}
          >
            <Row
              device={device}
              ticked={ticked.has(device.id)}
              onTick={onTick}
              onConnect={onConnect}
              onWatch={onWatch}
            />
          </li>
        );
      })}
    </ul>
  );
}

interface RowProps extends Pick<Props, 'onTick' | 'onConnect' | 'onWatch'> {
  device: Device;
  ticked: boolean;
}

const Row = memo(function Row({ device, ticked, onTick, onConnect, onWatch }: RowProps) {
  const name = nameOf(device);
  const services = device.services.map((service) => service.name).join(', ');
  return (
    <div className={ticked ? 'device ticked' : 'device'}>
      <label className="tick">
        <input
          type="checkbox"
          aria-label={`Select ${name}`}
          checked={ticked}
          onChange={(event) => onTick(device.id, event.target.checked)}
        />
      </label>
      <span className={device.online ? 'kind online' : 'kind'}>
        <KindIcon kind={device.kind} />
      </span>
      <div className="device-words">
        <Link className="device-name" href={`/devices/${encodeURIComponent(device.id)}`}>
          <bdi>{name}</bdi>
        </Link>
        <p className="soft one-line">
          {kindName(device)}
          {device.online ? ' · online' : ''}
          {services ? ` · ${services}` : ''}
        </p>
      </div>
      {camerasOf(device).length > 0 && (
        <button type="button" className="small" aria-label={`Live view of ${name}`} onClick={() => onWatch(device)}>
          Live view
        </button>
      )}
      {device.services.length > 0 && (
        <button type="button" className="small" aria-label={`Connect to ${name}`} onClick={() => onConnect(device)}>
          Connect
        </button>
      )}
      <ShareIcon device={device} />
    </div>
  );
});
