import { keepPreviousData, useQuery } from '@tanstack/react-query';
import { useEffect, useState } from 'react';
import { type Device, nameOf } from '../devices/devices';
import { Explain, type ExplainQuery, type SharePermission } from '../generated';
import { ask } from '../lib/graphql';
import { count, permissionsInWords, refusalInWords } from '../lib/words';
import { Icon } from '../parts/Icon';
import { Problem } from '../parts/Notice';
import { type Contact, contactName } from './contacts';
import { type Group, supported } from './plan';

const SETTLED_MS = 350;
const MOST_PAIRS = 1000; // what one dry run may look at
const MOST_REFUSALS = 8;

interface Props {
  groups: readonly Group[];
  terms: {
    readonly recipients: readonly string[];
    readonly scripting: boolean;
    readonly startsAt: string | null;
    readonly endsAt: string | null;
  };
  devices: readonly Device[];
  recipients: readonly Contact[];
}

type Explanation = NonNullable<ExplainQuery['login']>['explainShare'];
type Item = Explanation['items'][number];

/** What each recipient would get, by the decision that the sharing itself would make. */
export function Preview({ groups, terms, devices, recipients }: Props) {
  const asked = useSettled(JSON.stringify({ groups, terms }));
  const tooMany = devices.length * recipients.length > MOST_PAIRS;
  const explained = useQuery({
    queryKey: ['explain', asked],
    queryFn: async () => {
      const question = JSON.parse(asked) as Pick<Props, 'groups' | 'terms'>;
      const answers = question.groups.map((group) => ask(Explain, { ...question.terms, ...group }));
      return (await Promise.all(answers)).flatMap(({ login }) => login?.explainShare ?? []);
    },
    enabled: !tooMany,
    gcTime: 0,
    staleTime: 0,
    placeholderData: keepPreviousData,
    retry: false,
  });
  if (tooMany) return <p className="soft">So many at once are not looked at beforehand; you will see what became of each.</p>;
  const items = explained.data?.flatMap((answer) => answer.items) ?? [];
  const refused = items.filter((item) => item.code);
  const whole = explained.data?.find((answer) => answer.code && !answer.items.some((item) => item.code));
  const names = new Map(devices.map((device) => [device.id, nameOf(device)]));
  const people = new Map(recipients.map((contact) => [`contact:${contact.id}`, contactName(contact)]));
  return (
    <section className="preview" aria-label="What will happen" aria-busy={explained.isFetching}>
      <h3>What will happen</h3>
      {!explained.data && !explained.error && <p className="soft">Looking…</p>}
      <ul className="plain">
        {recipients.map((contact) => {
          const mine = items.filter((item) => item.recipient === `contact:${contact.id}` && !item.code);
          return mine.length ? (
            <li key={contact.id}>
              <bdi className="strong">{contactName(contact)}</bdi> {inWords(mine, devices)}
            </li>
          ) : null;
        })}
      </ul>
      {refused.length > 0 && (
        <ul className="plain refusals">
          {refused.slice(0, MOST_REFUSALS).map((item) => (
            <li key={`${item.deviceId} ${item.recipient}`}>
              <Icon name="warning" />
              <span>
                <bdi>{names.get(item.deviceId) ?? item.deviceId}</bdi>
                {item.recipient && (
                  <>
                    {' with '}
                    <bdi>{people.get(item.recipient) ?? item.recipient}</bdi>
                  </>
                )}
                : {refusalInWords({ code: item.code ?? '', message: item.message ?? '' })}
              </span>
            </li>
          ))}
          {refused.length > MOST_REFUSALS && <li>and {refused.length - MOST_REFUSALS} more would be refused.</li>}
        </ul>
      )}
      {whole?.code && (
        <p className="refusals">{refusalInWords({ code: whole.code, message: whole.message ?? '' })}</p>
      )}
      <Problem error={explained.error} />
    </section>
  );
}

function inWords(items: readonly Item[], devices: readonly Device[]): string {
  const parts: string[] = [];
  const told = new Set(items.map((item) => item.outcome));
  for (const outcome of told) {
    const number = items.filter((item) => item.outcome === outcome).length;
    parts.push(`${VERBS[outcome] ?? 'is told of'} ${count(number, 'device')}`);
  }
  const may = mayInWords(items, devices);
  return `${parts.join(', ')}${may ? `: ${may}` : ''}.`;
}

const VERBS: Partial<Record<Item['outcome'], string>> = {
  REQUESTED: 'is invited to',
  ACCEPTED: 'gets at once',
  CHANGED: 'gets new terms for',
  RESENT: 'is invited again to',
  UNCHANGED: 'has the same already of',
};

/** All that the recipient may do on at least one of the devices. */
function mayInWords(items: readonly Item[], devices: readonly Device[]): string {
  const may = new Set<string>();
  let scripting = false;
  for (const item of items) {
    const device = devices.find((candidate) => candidate.id === item.deviceId);
    for (const service of item.after) {
      scripting ||= service.scripting;
      const all: readonly SharePermission[] = service.permissions ?? (device ? supported([device]) : []);
      for (const permission of all) may.add(permission);
    }
  }
  const words = may.size ? permissionsInWords([...may]) : '';
  return scripting ? `${words}${words ? ', ' : ''}run scripts` : words;
}

/** A value once it has not changed for a moment. */
function useSettled(value: string): string {
  const [settled, setSettled] = useState(value);
  useEffect(() => {
    const timer = setTimeout(() => setSettled(value), SETTLED_MS);
    return () => clearTimeout(timer);
  }, [value]);
  return settled;
}
