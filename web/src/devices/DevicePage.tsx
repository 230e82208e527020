import { useState } from 'react';
import { Link, useLocation } from 'wouter';
import { ConnectDialog } from '../connect/ConnectDialog';
import { page } from '../lib/page';
import { moment, permissionsInWords } from '../lib/words';
import { LiveDialog } from '../live/LiveDialog';
import { camerasOf } from '../live/streams';
import { Icon, KindIcon } from '../parts/Icon';
import { Empty, Loading, Problem } from '../parts/Notice';
import { ShareIcon } from '../parts/ShareIcon';
import { useTitle } from '../parts/useTitle';
import { ShareDialog } from '../share/ShareDialog';
import { useOpenConnections } from '../sharing/Connected';
import { ConnectionLine } from '../sharing/ConnectionLine';
import { useGivenShares } from '../sharing/given';
import { ShareLine } from '../sharing/ShareLine';
import { type Device, kindName, nameOf, useDevice, useDevices } from './devices';
import { History } from './History';
import { LeaveDialog } from './LeaveDialog';
import { NameDialog } from './NameDialog';

export function DevicePage({ id }: { id: string }) {
  const device = useDevice(id);
  const devices = useDevices();
  const [watched, setWatched] = useState<Watched | null>(null); // told of here when the device itself is gone
  useTitle(device ? nameOf(device) : 'Device');
  return (
    <>
      <Page device={device} error={devices.error} onWatch={setWatched} />
      {watched && (
        <LiveDialog
          device={device ?? watched.device}
          first={watched.camera}
          cameras={camerasOf(watched.device)}
          onClose={() => setWatched(null)}
        />
      )}
    </>
  );
}

interface Watched {
  device: Device;
  camera: string;
}

interface PageProps {
  device: Device | null | undefined;
  error: Error | null;
  onWatch: (watched: Watched) => void;
}

function Page({ device, error, onWatch }: PageProps) {
  if (device) return <Shown device={device} onWatch={(camera) => onWatch({ device, camera })} />;
  if (error) return <Problem error={error} />;
  if (device === undefined) return <Loading what="the device" />;
  return (
    <Empty page title="This device is not among yours">
      <p>
        It is not shared with you, or not any more. <Link href="/">To my devices</Link>
      </p>
    </Empty>
  );
}

function Shown({ device, onWatch }: { device: Device; onWatch: (camera: string) => void }) {
  const [, go] = useLocation();
  const [doing, setDoing] = useState<'name' | 'share' | 'leave' | 'connect' | null>(null);
  const cameras = camerasOf(device);
  const named = nameOf(device);
  const close = () => setDoing(null);
  return (
    <>
      <p className="crumbs">
        <Link href="/">Devices</Link>
      </p>
      <div className="page-head device-head">
        <span className={device.online ? 'kind online' : 'kind'}>
          <KindIcon kind={device.kind} />
        </span>
        <h1>
          <bdi>{named}</bdi>
        </h1>
        {(device.owned ? page.renames : true) && (
          <button
            type="button"
            className="icon-button"
            aria-label={device.owned ? 'Rename' : 'Give it a name of your own'}
            onClick={() => setDoing('name')}
          >
            <Icon name="edit" />
          </button>
        )}
        <ShareIcon device={device} />
      </div>
      <p className="soft facts">
        {[
          kindName(device),
          device.online ? 'online' : device.lastReported ? `offline since ${moment(device.lastReported)}` : '',
          device.owned ? 'yours' : `shared by ${device.owner.name ?? device.owner.email ?? 'its owner'}`,
          device.alias ? `its owner calls it ${device.name}` : '',
          !device.owned && device.scripting ? 'you may run scripts' : '',
        ]
          .filter(Boolean)
          .join(' · ')}
      </p>
      <div className="page-actions">
        {cameras[0] && (
          <button type="button" className="primary" onClick={() => onWatch(cameras[0]?.id ?? '')}>
            Live view
          </button>
        )}
        {device.services.length > 0 && (
          <button type="button" className={cameras.length ? '' : 'primary'} onClick={() => setDoing('connect')}>
            Connect
          </button>
        )}
        {device.owned ? (
          <button type="button" onClick={() => setDoing('share')}>
            Share…
          </button>
        ) : (
          <button type="button" className="danger" onClick={() => setDoing('leave')}>
            Give back…
          </button>
        )}
      </div>
      <section className="card">
        <h2>Services</h2>
        {device.services.length ? (
          <ul className="share-lines">
            {device.services.map((service) => (
              <li className="share-line" key={service.id}>
                <div className="share-words">
                  <p>
                    <bdi className="strong">{service.name}</bdi>
                    <span className="soft">
                      {' '}
                      {service.protocol}
                      {service.channel !== null && ` · channel ${service.channel}`}
                    </span>
                  </p>
                  <p className="soft">You may: {permissionsInWords(service.permissions)}</p>
                </div>
                {cameras.length > 1 && cameras.includes(service) && (
                  <button
                    type="button"
                    className="small"
                    aria-label={`Live view of ${service.name}`}
                    onClick={() => onWatch(service.id)}
                  >
                    Live view
                  </button>
                )}
              </li>
            ))}
          </ul>
        ) : (
          <p className="soft">{device.owned ? 'It has no services.' : 'Nothing that you may use now.'}</p>
        )}
      </section>
      {device.owned && <SharedWith device={device} />}
      <OpenNow device={device} />
      <History device={device} />
      {doing === 'name' && <NameDialog device={device} onClose={close} />}
      {doing === 'connect' && <ConnectDialog device={device} onClose={close} />}
      {doing === 'share' && <ShareDialog devices={[device]} onClose={close} onDone={close} />}
      {doing === 'leave' && <LeaveDialog devices={[device]} onClose={close} onDone={() => go('/')} />}
    </>
  );
}

function SharedWith({ device }: { device: Device }) {
  const given = useGivenShares(device.id);
  return (
    <section className="card">
      <h2>Shared with</h2>
      <Problem error={given.error} />
      {given.isPending && <Loading what="who has it" />}
      {given.data && !given.data.length && <p className="soft">Nobody.</p>}
      {given.data && given.data.length > 0 && (
        <ul className="share-lines">
          {given.data.map((share) => (
            <ShareLine
              key={share.id}
              share={{ ...share, deviceId: device.id }}
              device={device}
              titleWords={`${nameOf(device)} with ${share.address}`}
              title={
                <>
                  <bdi className="strong">{share.address}</bdi>
                  {share.remark && <span className="soft"> {share.remark}</span>}
                </>
              }
            />
          ))}
        </ul>
      )}
    </section>
  );
}

function OpenNow({ device }: { device: Device }) {
  const open = useOpenConnections();
  const here = open.data?.filter((connection) => connection.deviceId === device.id) ?? [];
  return (
    <section className="card">
      <h2>Connected now</h2>
      <Problem error={open.error} />
      {!here.length && <p className="soft">Nobody.</p>}
      {here.length > 0 && (
        <ul className="share-lines">
          {here.map((connection) => (
            <ConnectionLine key={connection.id} connection={connection} device={device} title={nameOf(device)} />
          ))}
        </ul>
      )}
    </section>
  );
}
