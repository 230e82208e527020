import { useMutation } from '@tanstack/react-query';
import { useState } from 'react';
import { type Device, nameOf } from '../devices/devices';
import { Connect, OpenStream } from '../generated';
import { ask } from '../lib/graphql';
import { page } from '../lib/page';
import { moment, permissionsInWords } from '../lib/words';
import { addressOf } from '../live/streams';
import { Dialog } from '../parts/Dialog';
import { Copyable } from '../parts/Copyable';
import { Problem } from '../parts/Notice';
import { type Command, commandsFor, playersFor, proxyCommands } from './commands';

type Service = Device['services'][number];

/** What to do to get in, and what to know of it. */
interface Way {
  readonly commands: readonly Command[];
  readonly words: string;
}

async function portOf({ id, protocol }: Service): Promise<Way> {
  const { connect: way } = await ask(Connect, { service: id });
  return {
    commands: [{ label: 'Address', text: `${way.host}:${way.port}` }, ...commandsFor(protocol, way)],
    words: `The first computer that connects keeps this address, for ${Math.round(way.timeout / 60) || 1} min without a connection. It closes at once when the sharing ends.`,
  };
}

/** A player of a camera sees and hears what is granted, and nothing else. */
async function streamOf({ id }: Service): Promise<Way> {
  const { openStream } = await ask(OpenStream, { service: id });
  return {
    commands: playersFor(addressOf(openStream.urls)),
    words: `It is for you alone: the password in it is yours, until ${moment(openStream.expires)}. It closes at once when the sharing ends.`,
  };
}

/** The gateway's proxy asks each time who comes, so that nothing is to be opened for it. */
function proxyOf({ id, protocol }: Service): Way {
  return {
    commands: proxyCommands(page.access, protocol, id),
    words:
      'LATCHKEY_TOKEN is a bearer token of yours, from where you sign in. The name stays as it is, and works from any computer of yours as long as this is shared with you.',
  };
}

interface Props {
  device: Device;
  onClose: () => void;
}

/** Choose a service and a way, get an address and what to do with it. */
export function ConnectDialog({ device, onClose }: Props) {
  const [service, setService] = useState(device.services[0]);
  const [by, setBy] = useState<'port' | 'proxy'>('port');
  const connect = useMutation({
    mutationFn: (chosen: Service) => (chosen.protocol === 'rtsp' ? streamOf(chosen) : portOf(chosen)),
  });
  const proxied = page.access !== '' && service !== undefined && service.protocol !== 'rtsp';
  const atProxy = proxied && by === 'proxy';
  const way = atProxy ? proxyOf(service) : connect.data;
  return (
    <Dialog
      title={`Connect to ${nameOf(device)}`}
      onClose={onClose}
      actions={
        <>
          <button type="button" onClick={onClose}>
            Close
          </button>
          {!atProxy && (
            <button
              type="button"
              className="primary"
              disabled={!service || connect.isPending}
              onClick={() => service && connect.mutate(service)}
            >
              {connect.isPending ? 'Opening…' : way ? 'Open another' : 'Connect'}
            </button>
          )}
        </>
      }
    >
      <fieldset>
        <legend>Service</legend>
        {device.services.map((item) => (
          <label className="tick" key={item.id}>
            <input
              type="radio"
              name="service"
              checked={item === service}
              onChange={() => {
                setService(item);
                connect.reset();
              }}
            />
            <span>
              <bdi>{item.name}</bdi>
              <span className="soft">
                {' '}
                · {item.protocol} · {permissionsInWords(item.permissions)}
              </span>
            </span>
          </label>
        ))}
      </fieldset>
      {proxied && (
        <fieldset>
          <legend>Way in</legend>
          <label className="tick">
            <input type="radio" name="way" checked={by === 'port'} onChange={() => setBy('port')} />
            <span>
              An address of its own<span className="soft"> · for any program, without a token</span>
            </span>
          </label>
          <label className="tick">
            <input type="radio" name="way" checked={by === 'proxy'} onChange={() => setBy('proxy')} />
            <span>
              The gateway’s proxy<span className="soft"> · for ssh, curl and scripts, with a token</span>
            </span>
          </label>
        </fieldset>
      )}
      <Problem error={connect.error} />
      {way && service && (
        <section className="way" aria-label="The way in">
          {way.commands.map((command) => (
            <Copyable key={command.label} label={command.label} text={command.text} link={command.link ?? false} />
          ))}
          <p className="soft">{way.words}</p>
        </section>
      )}
    </Dialog>
  );
}
