import { useEffect, useRef, useState } from 'react';
import { ScanContactCode } from '../generated';
import { ask, Refusal } from '../lib/graphql';
import { refusalInWords } from '../lib/words';
import { useAnnounce } from '../parts/Announcer';
import { Dialog } from '../parts/Dialog';
import { Icon } from '../parts/Icon';

const LOOK_MS = 150;
const WIDEST = 800; // of the picture that is looked at; larger ones only take longer

interface Props {
  onScanned: (contactId: string) => void;
  onClose: () => void;
}

/** Look through the camera until somebody's QR code is seen. */
export function ScanDialog({ onScanned, onClose }: Props) {
  const video = useRef<HTMLVideoElement>(null);
  const announce = useAnnounce();
  const [problem, setProblem] = useState('');
  const [looking, setLooking] = useState(true);
  const taken = useRef({ onScanned, announce });
  taken.current = { onScanned, announce };

  useEffect(() => {
    if (!looking) return;
    let over = false;
    let stream: MediaStream | undefined;
    void look();
    return () => {
      over = true;
      for (const track of stream?.getTracks() ?? []) track.stop();
    };

    async function look() {
      try {
        const { default: read } = await import('jsqr');
        if (!navigator.mediaDevices) throw new DOMException('', 'NotFoundError');
        stream = await navigator.mediaDevices.getUserMedia({ video: { facingMode: 'environment' } });
        const shown = video.current;
        if (over || !shown) return stream.getTracks().forEach((track) => track.stop());
        shown.srcObject = stream;
        await shown.play();
        const canvas = document.createElement('canvas');
        const context = canvas.getContext('2d', { willReadFrequently: true });
        while (!over && context) {
          const scale = Math.min(1, WIDEST / shown.videoWidth);
          canvas.width = Math.round(shown.videoWidth * scale);
          canvas.height = Math.round(shown.videoHeight * scale);
          context.drawImage(shown, 0, 0, canvas.width, canvas.height);
          const picture = context.getImageData(0, 0, canvas.width, canvas.height);
          const code = read(picture.data, picture.width, picture.height)?.data;
          if (code) {
            const { scanContactCode: contact } = await ask(ScanContactCode, { code });
            taken.current.announce(`${contact.name ?? 'A contact'} is in your contacts now.`);
            taken.current.onScanned(contact.id);
            return;
          }
          await new Promise((resolve) => setTimeout(resolve, LOOK_MS));
        }
      } catch (error) {
        if (over) return;
        setLooking(false);
        setProblem(error instanceof Refusal ? refusalInWords(error) : cameraProblem(error));
      }
    }
  }, [looking]);

  return (
    <Dialog
      title="Scan a code"
      onClose={onClose}
      actions={
        <button type="button" onClick={onClose}>
          Cancel
        </button>
      }
    >
      <p className="soft">Ask the other person to open Account and show “My QR Code”.</p>
      {looking ? (
        <div className="finder">
          <video ref={video} muted playsInline aria-label="What the camera sees" />
        </div>
      ) : (
        <div className="problem" role="alert">
          <Icon name="warning" />
          <span>{problem}</span>
          <button
            type="button"
            className="small"
            onClick={() => {
              setProblem('');
              setLooking(true);
            }}
          >
            Try again
          </button>
        </div>
      )}
    </Dialog>
  );
}

function cameraProblem(error: unknown): string {
  const name = error instanceof DOMException ? error.name : '';
  if (name === 'NotAllowedError') return 'This page may not use the camera. Allow it in the browser and try again.';
  if (name === 'NotFoundError' || name === 'OverconstrainedError') return 'There is no camera on this device.';
  return 'The camera cannot be used at the moment.';
}
