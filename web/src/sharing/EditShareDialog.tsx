import { useMutation } from '@tanstack/react-query';
import { useState } from 'react';
import type { Device } from '../devices/devices';
import { ChangeShare, type GivenSharesQuery, type SharePermission, type TermsInput } from '../generated';
import { ask, Refusal } from '../lib/graphql';
import { fromInput, permissionsInWords, termsInWords, toInput } from '../lib/words';
import { useAnnounce } from '../parts/Announcer';
import { Dialog } from '../parts/Dialog';
import { Loading, Problem } from '../parts/Notice';
import { ChoiceEditor } from '../share/ChoiceEditor';
import { type Period, PeriodFields } from '../share/PeriodFields';
import { type Choice, problemOf } from '../share/plan';
import { useGivenShares, useSharesChanged } from './given';

type GivenShare = NonNullable<GivenSharesQuery['login']>['shares'][number];

interface Props {
  deviceId: string;
  device: Device | undefined;
  shareId: string;
  title: string;
  onClose: () => void;
}

/** Change what a share gives; whoever has seen an older state is told so, and sees the new one. */
export function EditShareDialog({ deviceId, device, shareId, title, onClose }: Props) {
  const given = useGivenShares(deviceId);
  const share = given.data?.find((item) => item.id === shareId);
  if (share && device) return <Editor key={share.version} share={share} device={device} title={title} onClose={onClose} />;
  return (
    <Dialog title={`Edit ${title}`} onClose={onClose}>
      <Problem error={given.error} />
      {given.isFetching ? <Loading what="the terms" /> : <p>This has ended meanwhile.</p>}
    </Dialog>
  );
}

interface EditorProps extends Pick<Props, 'title' | 'onClose'> {
  share: GivenShare;
  device: Device;
}

function Editor({ share, device, title, onClose }: EditorProps) {
  const announce = useAnnounce();
  const changed = useSharesChanged();
  const [before] = useState(() => choiceOf(share));
  const [choice, setChoice] = useState(before);
  const [scripting, setScripting] = useState(share.terms.scripting);
  const [lasted] = useState<Period>({ starts: toInput(share.terms.startsAt), ends: toInput(share.terms.endsAt) });
  const [period, setPeriod] = useState(lasted);
  const differs = new Set(share.terms.services?.map((item) => permissionsInWords(item.permissions))).size > 1;
  const names = new Map(device.services.map((service) => [service.id, service.name]));
  const missing = problemOf([device], () => choice);
  const save = useMutation({
    mutationFn: () =>
      ask(ChangeShare, {
        device: device.id,
        share: share.id,
        version: share.version,
        terms: termsOf(choice, scripting, period, share),
        message: share.message,
      }),
    onSuccess: async () => {
      announce(`Changed: ${title}.`);
      onClose();
      await changed();
    },
    onError: (error) => (error instanceof Refusal && error.code === 'CONFLICT' ? changed() : undefined),
  });
  return (
    <Dialog
      title={`Edit ${title}`}
      entered={choice !== before || period !== lasted || scripting !== share.terms.scripting}
      onClose={onClose}
      actions={
        <>
          {missing && <p className="soft footer-words">{missing}</p>}
          <button type="button" onClick={onClose}>
            Cancel
          </button>
          <button
            type="button"
            className="primary"
            disabled={Boolean(missing) || save.isPending}
            onClick={() => save.mutate()}
          >
            {save.isPending ? 'Saving…' : 'Save'}
          </button>
        </>
      }
    >
      {differs && (
        <p className="soft">
          What may be done differs by service now: {termsInWords(share.terms, names)}. Permissions that you change
          here hold for all services chosen.
        </p>
      )}
      <ChoiceEditor devices={[device]} choice={choice} onChange={setChoice} name={share.id} />
      <label className="tick">
        <input type="checkbox" checked={scripting} onChange={(event) => setScripting(event.target.checked)} />
        <span>Allow running scripts</span>
      </label>
      <PeriodFields period={period} onChange={setPeriod} />
      <Problem error={save.error} />
    </Dialog>
  );
}

function choiceOf({ terms }: GivenShare): Choice {
  const services = terms.services && new Set(terms.services.map((item) => item.serviceId));
  const lists = terms.services ? terms.services.map((item) => item.permissions) : [terms.permissions];
  const every = lists.some((list) => list === null);
  return { services, permissions: every ? null : new Set(lists.flatMap((list) => list ?? [])) };
}

function termsOf(choice: Choice, scripting: boolean, period: Period, share: GivenShare): TermsInput {
  const permissions = choice.permissions && [...choice.permissions];
  const common = {
    scripting,
    startsAt: kept(period.starts, share.terms.startsAt),
    endsAt: kept(period.ends, share.terms.endsAt),
  };
  if (choice.services === null) return { ...common, permissions };
  const before = new Map(share.terms.services?.map((item) => [item.serviceId, item.permissions]));
  const same = sameSet(choice.permissions, choiceOf(share).permissions);
  return {
    ...common,
    services: [...choice.services].map((serviceId) => ({
      serviceId,
      // What a service had of its own stays, unless the permissions were changed here.
      permissions: same && before.has(serviceId) ? (before.get(serviceId) ?? null) : permissions,
    })),
  };
}

function sameSet(one: Choice['permissions'], other: ReadonlySet<SharePermission> | null): boolean {
  if (!one || !other) return one === other;
  return one.size === other.size && [...one].every((permission) => other.has(permission));
}

/** A field that was not touched keeps its seconds. */
function kept(text: string, before: string | null): string | null {
  return text === toInput(before) ? before : fromInput(text);
}
