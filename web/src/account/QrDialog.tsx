import { useQuery } from '@tanstack/react-query';
import { CreateContactCode } from '../generated';
import { ask } from '../lib/graphql';
import { Dialog } from '../parts/Dialog';
import { Loading, Problem } from '../parts/Notice';

const MARGIN_MS = 60_000; // a new one is drawn before the old one ends

/** The caller as a code that others scan. It holds no address, and is drawn anew before it ends. */
export function QrDialog({ name, onClose }: { name: string; onClose: () => void }) {
  const code = useQuery({
    queryKey: ['code'],
    queryFn: async () => (await ask(CreateContactCode)).createContactCode,
    gcTime: 0,
    staleTime: 0,
    refetchInterval: ({ state }) =>
      state.data ? Math.max(MARGIN_MS, Date.parse(state.data.endsAt) - Date.now() - MARGIN_MS) : false,
  });
  return (
    <Dialog title="My QR Code" onClose={onClose}>
      <Problem error={code.error} />
      {code.isPending && <Loading what="your code" />}
      {code.data && (
        <figure className="qr">
          <img
            src={`data:image/svg+xml;charset=utf-8,${encodeURIComponent(code.data.svg)}`}
            alt={`QR code of ${name}`}
            data-code={code.data.code}
          />
          <figcaption>
            <strong>{name}</strong>
            <span className="soft">
              Let the other person scan it in the Contact Picker. It holds no address and is good for some minutes.
            </span>
          </figcaption>
        </figure>
      )}
    </Dialog>
  );
}
