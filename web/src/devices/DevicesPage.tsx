import { useMemo, useState } from 'react';
import { ConnectDialog } from '../connect/ConnectDialog';
import { count } from '../lib/words';
import { LiveDialog } from '../live/LiveDialog';
import { camerasOf } from '../live/streams';
import { Icon } from '../parts/Icon';
import { Menu } from '../parts/Menu';
import { Empty, Loading, Problem } from '../parts/Notice';
import { useTitle } from '../parts/useTitle';
import { ShareDialog } from '../share/ShareDialog';
import { chosen, type Device, type Filter, type Order, useDevices } from './devices';
import { DeviceList } from './DeviceList';
import { LeaveDialog } from './LeaveDialog';

const FILTERS: readonly (readonly [Filter, string])[] = [
  ['all', 'All devices'],
  ['own', 'My own'],
  ['in', 'Shared with me'],
  ['out', 'Shared by me'],
  ['none', 'Not shared'],
];
const ORDERS: readonly (readonly [Order, string])[] = [
  ['name', 'By name'],
  ['newest', 'Newest first'],
  ['kind', 'By kind'],
  ['online', 'Online first'],
];

type Doing = { what: 'share' | 'leave'; devices: readonly Device[] } | { what: 'connect' | 'live'; device: Device } | null;

export function DevicesPage() {
  useTitle('Devices');
  const devices = useDevices();
  const [words, setWords] = useState('');
  const [filter, setFilter] = useState<Filter>('all');
  const [order, setOrder] = useState<Order>('name');
  const [ticked, setTicked] = useState<ReadonlySet<string>>(new Set());
  const [doing, setDoing] = useState<Doing>(null);
  const all = devices.data ?? [];
  const shown = useMemo(() => chosen(all, { words, filter, order }), [all, words, filter, order]);
  const selected = useMemo(() => all.filter((device) => ticked.has(device.id)), [all, ticked]);
  const own = selected.filter((device) => device.owned);
  const foreign = selected.filter((device) => !device.owned);

  const tick = (id: string, on: boolean) => {
    const next = new Set(ticked);
    if (on) next.add(id);
    else next.delete(id);
    setTicked(next);
  };
  const everyShown = shown.length > 0 && shown.every((device) => ticked.has(device.id));
  const tickShown = () => {
    const next = new Set(ticked);
    for (const device of shown) {
      if (everyShown) next.delete(device.id);
      else next.add(device.id);
    }
    setTicked(next);
  };
  const done = () => {
    setDoing(null);
    setTicked(new Set());
  };

  return (
    <>
      <div className="page-head">
        <h1>Devices</h1>
        {devices.data && <span className="count">{all.length.toLocaleString('en')}</span>}
      </div>
      <div className="toolbar" role="search">
        <label className="search">
          <Icon name="search" />
          <span className="hidden-words">Search devices</span>
          <input
            type="search"
            placeholder="Search by name, service or person"
            value={words}
            onChange={(event) => setWords(event.target.value)}
          />
        </label>
        <Choice label="Show" value={filter} options={FILTERS} onChoose={setFilter} />
        <Choice label="Order" value={order} options={ORDERS} onChoose={setOrder} />
      </div>
      <Problem error={devices.error} />
      {!devices.data && !devices.error && <Loading what="your devices" />}
      {devices.data && !all.length && (
        <Empty title="No devices yet">
          <p>What others share with you appears here once you have accepted it.</p>
        </Empty>
      )}
      {all.length > 0 && (
        <div className="selection">
          <label className="tick">
            <input
              type="checkbox"
              checked={everyShown}
              ref={(box) => {
                if (box) box.indeterminate = !everyShown && selected.length > 0;
              }}
              disabled={!shown.length}
              onChange={tickShown}
            />
            <span>{selected.length ? `${count(selected.length, 'device')} selected` : 'Select all'}</span>
          </label>
          <span className="spacer" />
          {shown.length !== all.length && <span className="soft">{count(shown.length, 'device')} shown</span>}
          {selected.length > 0 && (
            <Menu
              label="Actions"
              items={[
                ...(own.length
                  ? [{ label: 'Share…', onChoose: () => setDoing({ what: 'share', devices: own }) }]
                  : []),
                ...(foreign.length
                  ? [{ label: 'Give back…', onChoose: () => setDoing({ what: 'leave', devices: foreign }) }]
                  : []),
              ]}
            />
          )}
        </div>
      )}
      {all.length > 0 && !shown.length && (
        <Empty title="No device matches">
          <p>Search for something else, or show all devices.</p>
        </Empty>
      )}
      {shown.length > 0 && (
        <DeviceList
          devices={shown}
          ticked={ticked}
          onTick={tick}
          onConnect={(device) => setDoing({ what: 'connect', device })}
          onWatch={(device) => setDoing({ what: 'live', device })}
        />
      )}
      {doing?.what === 'share' && (
        <ShareDialog devices={doing.devices} onClose={() => setDoing(null)} onDone={done} />
      )}
      {doing?.what === 'leave' && (
        <LeaveDialog devices={doing.devices} onClose={() => setDoing(null)} onDone={done} />
      )}
      {doing?.what === 'live' && (
        <LiveDialog
          device={doing.device}
          first=""
          cameras={camerasOf(doing.device)}
          onClose={() => setDoing(null)}
        />
      )}
      {doing?.what === 'connect' && <ConnectDialog device={doing.device} onClose={() => setDoing(null)} />}
    </>
  );
}

interface ChoiceProps<Value extends string> {
  label: string;
  value: Value;
  options: readonly (readonly [Value, string])[];
  onChoose: (value: Value) => void;
}

function Choice<Value extends string>({ label, value, options, onChoose }: ChoiceProps<Value>) {
  return (
    <label className="choice">
      <span className="hidden-words">{label}</span>
      <select value={value} onChange={(event) => onChoose(event.target.value as Value)}>
        {options.map(([option, name]) => (
          <option key={option} value={option}>
            {name}
          </option>
        ))}
      </select>
    </label>
  );
}
