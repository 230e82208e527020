import { useMutation } from '@tanstack/react-query';
import { useState } from 'react';
import { type Device, nameOf } from '../devices/devices';
import { Connect, OpenStream } from '../generated';
import { ask } from '../lib/graphql';
import { moment, permissionsInWords } from '../lib/words';
import { Dialog } from '../parts/Dialog';
import { Copyable } from '../parts/Copyable';
import { Problem } from '../parts/Notice';
import { type Command, commandsFor, playersFor } from './commands';

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
    words: `The first computer that connects keeps this address, for ${Math.round(way.timeout / 60) || 1} min without a connection.`,
  };
}

/** A player of a camera sees and hears what is granted, and nothing else. */
async function streamOf({ id }: Service): Promise<Way> {
  const { openStream } = await ask(OpenStream, { service: id });
  return {
    commands: playersFor(addressOf(openStream.urls)),
    words: `It is for you alone: the password in it is yours, until ${moment(openStream.expires)}.`,
  };
}

/** Encrypted, but for an installation that is not itself: only a machine of one's own is reached so. */
function addressOf(urls: readonly string[]): string {
  const plain = location.protocol === 'http:' ? urls.find((url) => url.startsWith('rtsp:')) : undefined;
  return plain ?? urls[0] ?? '';
}

interface Props {
  device: Device;
  onClose: () => void;
}

/** Choose a service, get an address and what to do with it. */
export function ConnectDialog({ device, onClose }: Props) {
  const [service, setService] = useState(device.services[0]);
  const connect = useMutation({
    mutationFn: (chosen: Service) => (chosen.protocol === 'rtsp' ? streamOf(chosen) : portOf(chosen)),
  });
  const way = connect.data;
  return (
    <Dialog
      title={`Connect to ${nameOf(device)}`}
      onClose={onClose}
      actions={
        <>
          <button type="button" onClick={onClose}>
            Close
          </button>
          <button
            type="button"
            className="primary"
            disabled={!service || connect.isPending}
            onClick={() => service && connect.mutate(service)}
          >
            {connect.isPending ? 'Opening…' : way ? 'Open another' : 'Connect'}
          </button>
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
      <Problem error={connect.error} />
      {way && service && (
        <section className="way" aria-label="The way in">
          {way.commands.map((command) => (
            <Copyable key={command.label} label={command.label} text={command.text} link={command.link ?? false} />
          ))}
          <p className="soft">{way.words} It closes at once when the sharing ends.</p>
        </section>
      )}
    </Dialog>
  );
}
