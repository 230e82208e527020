import { useMutation, useQueryClient } from '@tanstack/react-query';
import type { Device } from '../devices/devices';
import { Disconnect, type OpenConnectionsQuery } from '../generated';
import { ask } from '../lib/graphql';
import { page } from '../lib/page';
import { moment, permissionName } from '../lib/words';
import { useAnnounce } from '../parts/Announcer';
import { Problem } from '../parts/Notice';

type Open = NonNullable<OpenConnectionsQuery['login']>['connections']['items'][number];

interface Props {
  connection: Open;
  device: Device | undefined;
  title: string;
}

/** An open connection, and the button that cuts it. */
export function ConnectionLine({ connection, device, title }: Props) {
  const client = useQueryClient();
  const announce = useAnnounce();
  const mine = connection.user.id === page.account;
  const who = mine ? 'You' : (connection.user.name ?? connection.user.id);
  const service = device?.services.find((item) => item.id === connection.serviceId)?.name ?? connection.serviceId;
  const cut = useMutation({
    mutationFn: () => ask(Disconnect, { connection: connection.id }),
    onSuccess: async () => {
      announce(`Cut: ${who} on ${title}.`);
      await client.invalidateQueries({ queryKey: ['connections'] });
    },
  });
  return (
    <li className="share-line">
      <div className="share-words">
        <p>
          <bdi className="strong">{who}</bdi> on <bdi>{title}</bdi>
          {connection.inDoubt && <span className="state ended">not heard of lately</span>}
        </p>
        <p className="soft">
          {service} · {permissionName(connection.permission)}
          {connection.opened && ` · since ${moment(connection.opened)}`}
        </p>
        <Problem error={cut.error} />
      </div>
      <button
        type="button"
        className="danger small"
        aria-label={`Cut ${who} off ${title}`}
        disabled={cut.isPending}
        onClick={() => cut.mutate()}
      >
        Cut
      </button>
    </li>
  );
}
