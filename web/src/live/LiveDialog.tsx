import { useQuery } from '@tanstack/react-query';
import { useEffect, useRef, useState } from 'react';
import { type Device, nameOf } from '../devices/devices';
import { playersFor } from '../connect/commands';
import { OpenStream } from '../generated';
import { ask } from '../lib/graphql';
import { moment } from '../lib/words';
import { Copyable } from '../parts/Copyable';
import { Dialog } from '../parts/Dialog';
import { Problem } from '../parts/Notice';
import { ShareDialog } from '../share/ShareDialog';
import { isPlayable, play, type Reason, type State } from './player';
import { addressOf } from './streams';

const REASONS: Record<Reason, string> = {
  refused: 'You may not see this camera, or not any more.',
  cut: 'This connection was cut by hand. What is shared stays shared.',
  unavailable: 'The camera does not answer at the moment.',
  lost: 'The connection to the camera was lost.',
  format: 'Browsers cannot show the picture of this camera. A media player can.',
  closed: '',
};

interface Props {
  device: Device;
  /** The camera to begin with. */
  first: string;
  cameras: Device['services'];
  onClose: () => void;
}

/** A camera's live picture, in a window of its own; its owner can share it from here. */
export function LiveDialog({ device, first, cameras: given, onClose }: Props) {
  const [cameras] = useState(given); // one that is not the caller's any more is told of, and does not just vanish
  const [chosen, setChosen] = useState(first);
  const [sharing, setSharing] = useState(false);
  const camera = cameras.find((item) => item.id === chosen) ?? cameras[0];
  if (!camera) return null;
  return (
    <Dialog
      wide
      title={`Live: ${nameOf(device)}`}
      onClose={onClose}
      actions={
        <>
          {device.owned && (
            <button type="button" onClick={() => setSharing(true)}>
              Share…
            </button>
          )}
          <button type="button" className="primary" onClick={onClose}>
            Close
          </button>
        </>
      }
    >
      {cameras.length > 1 && (
        <label className="field">
          <span>Camera</span>
          <select value={camera.id} onChange={(event) => setChosen(event.target.value)}>
            {cameras.map((item) => (
              <option key={item.id} value={item.id}>
                {item.name}
              </option>
            ))}
          </select>
        </label>
      )}
      <Screen key={camera.id} camera={camera} />
      {sharing && (
        <ShareDialog devices={[device]} onClose={() => setSharing(false)} onDone={() => setSharing(false)} />
      )}
    </Dialog>
  );
}

function Screen({ camera }: { camera: Device['services'][number] }) {
  const canvas = useRef<HTMLCanvasElement>(null);
  const [state, setState] = useState<State>('opening');
  const [reason, setReason] = useState<Reason>('closed');
  const [attempt, setAttempt] = useState(0);
  const stream = useQuery({
    queryKey: ['stream', camera.id, attempt],
    queryFn: async () => (await ask(OpenStream, { service: camera.id })).openStream,
    gcTime: 0, // a password is for one viewing,
    staleTime: 'static', // which a reading of all lists does not begin anew
    retry: false,
  });
  const address = stream.data && isPlayable() ? addressOf(stream.data.webUrls) : '';
  useEffect(() => {
    if (!address || !canvas.current) return;
    return play({
      address,
      service: camera.id,
      canvas: canvas.current,
      onState: (now, why) => {
        setState(now);
        if (why) setReason(why);
      },
    });
  }, [address, camera.id]);
  const url = addressOf(stream.data?.urls ?? []);
  const inPage = stream.isPending || address !== '';
  return (
    <>
      {inPage && (
        <div className="screen" data-state={state}>
          <canvas ref={canvas} role="img" aria-label={`Live picture of ${camera.name}`} width={640} height={360} />
          {state === 'playing' && (
            <button type="button" className="small" onClick={() => void canvas.current?.requestFullscreen()}>
              Full screen
            </button>
          )}
          <p className="screen-words" role="status">
            {state === 'opening' && !stream.error && (
              <>
                <span className="spinner" aria-hidden="true" /> Opening the camera…
              </>
            )}
            {state === 'ended' && (
              <>
                {REASONS[reason]}
                <button
                  type="button"
                  className="small"
                  onClick={() => {
                    setState('opening');
                    setAttempt(attempt + 1);
                  }}
                >
                  Try again
                </button>
              </>
            )}
          </p>
        </div>
      )}
      <Problem error={stream.error} />
      {stream.data && url && (
        <details className="players" open={!inPage}>
          <summary>Watch in a media player</summary>
          <div className="way">
            {playersFor(url).map((command) => (
              <Copyable key={command.label} label={command.label} text={command.text} />
            ))}
            <p className="soft">
              It is for you alone: the password in it is yours, until {moment(stream.data.expires)}.
            </p>
          </div>
        </details>
      )}
    </>
  );
}
