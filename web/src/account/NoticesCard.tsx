import { useMutation, useQuery, useQueryClient } from '@tanstack/react-query';
import { useState } from 'react';
import { NoticeSettings, type NoticeSettingsQuery, SetNoticeSettings } from '../generated';
import { ask } from '../lib/graphql';
import { useAnnounce } from '../parts/Announcer';
import { Loading, Problem } from '../parts/Notice';

type Settings = NonNullable<NoticeSettingsQuery['login']>['noticeSettings'];
type Preference = Settings['preferences'][number];

export const SETTINGS_KEY = ['noticeSettings'];

const KINDS: readonly (readonly [string, string])[] = [
  ['invitation', 'Somebody invites me'],
  ['invitation_changed', 'An invitation was changed'],
  ['share_changed', 'What I may do was changed'],
  ['revoked', 'A share with me was taken back'],
  ['expiring', 'An invitation or a share with me ends soon'],
  ['expired', 'A share with me is over'],
  ['accepted', 'Somebody accepted what I share'],
  ['rejected', 'Somebody rejected what I share'],
  ['left', 'Somebody gave back what I share'],
  ['undeliverable', 'An invitation could not be delivered'],
  ['first_use', 'Somebody connects for the first time'],
];
const CHANNELS: readonly (readonly [string, string])[] = [
  ['email', 'E-mail'],
  ['web_push', 'Browser'],
  ['fcm', 'App'],
  ['sms', 'SMS'],
];
const LANGUAGES: readonly (readonly [string, string])[] = [
  ['en', 'English'],
  ['de', 'Deutsch'],
];
const ZONES = Intl.supportedValuesOf('timeZone');
const HERE = Intl.DateTimeFormat().resolvedOptions().timeZone;

/** What the form of hours shows, as a key: it begins anew when that changes, and not when a way is chosen beside it. */
function hoursOf({ language, timeZone, quietFrom, quietUntil }: Settings): string {
  return JSON.stringify([language, timeZone, quietFrom, quietUntil]);
}

/** Which notices come on which way, when not, and in what language. */
export function NoticesCard() {
  const settings = useQuery({ queryKey: SETTINGS_KEY, queryFn: async () => (await ask(NoticeSettings)).login });
  const found = settings.data;
  return (
    <section className="card" aria-labelledby="notices-card">
      <h2 id="notices-card">Notices</h2>
      <p className="soft">Your inbox here always has all of them. These are the ways beside it.</p>
      {settings.isPending && <Loading what="what you chose" />}
      <Problem error={settings.error} />
      {found && (
        <>
          <Ways settings={found.noticeSettings} />
          <Hours key={hoursOf(found.noticeSettings)} settings={found.noticeSettings} />
        </>
      )}
    </section>
  );
}

/** Save a part; what is not named stays as it is. */
function useSave(settings: Settings) {
  const client = useQueryClient();
  const announce = useAnnounce();
  return useMutation({
    mutationFn: ({ preferences = [], ...changed }: Partial<Settings>) => {
      const { language, timeZone, quietFrom, quietUntil } = { ...settings, ...changed };
      return ask(SetNoticeSettings, { language, timeZone, quietFrom, quietUntil, preferences });
    },
    onSuccess: async (_, { preferences }) => {
      await client.invalidateQueries({ queryKey: SETTINGS_KEY });
      if (!preferences) announce('Saved.');
    },
  });
}

function Ways({ settings }: { settings: Settings }) {
  const save = useSave(settings);
  const saving = save.isPending ? save.variables.preferences : undefined;
  const find = (kind: string, channel: string): Preference | undefined =>
    saving?.find((item) => item.kind === kind && item.channel === channel) ??
    settings.preferences.find((item) => item.kind === kind && item.channel === channel);
  return (
    <>
      <div className="table-frame ways">
        <table>
          <caption className="hidden-words">Which notices come on which way</caption>
          <thead>
            <tr>
              <th scope="col">When</th>
              {CHANNELS.map(([channel, words]) => (
                <th scope="col" key={channel}>
                  {words}
                </th>
              ))}
            </tr>
          </thead>
          <tbody>
            {KINDS.map(([kind, words]) => (
              <tr key={kind}>
                <th scope="row">{words}</th>
                {CHANNELS.map(([channel, way]) => {
                  const preference = find(kind, channel);
                  return (
                    <td key={channel}>
                      {preference && (
                        <label className="tick">
                          <input
                            type="checkbox"
                            aria-label={`${words}: ${way}`}
                            checked={preference.wanted}
                            disabled={save.isPending}
                            onChange={(event) =>
                              save.mutate({ preferences: [{ kind, channel, wanted: event.target.checked }] })
                            }
                          />
                        </label>
                      )}
                    </td>
                  );
                })}
              </tr>
            ))}
          </tbody>
        </table>
      </div>
      <Problem error={save.error} />
    </>
  );
}

function Hours({ settings }: { settings: Settings }) {
  const save = useSave(settings);
  const [quiet, setQuiet] = useState(settings.quietFrom !== null);
  const [from, setFrom] = useState(settings.quietFrom?.slice(0, 5) ?? '22:00');
  const [until, setUntil] = useState(settings.quietUntil?.slice(0, 5) ?? '07:00');
  const [zone, setZone] = useState(settings.timeZone ?? HERE);
  const [language, setLanguage] = useState(settings.language ?? 'en');
  const zones = ZONES.includes(zone) ? ZONES : [zone, ...ZONES];
  return (
    <form
      className="hours"
      onSubmit={(event) => {
        event.preventDefault();
        save.mutate({
          language,
          timeZone: quiet ? zone : settings.timeZone,
          quietFrom: quiet ? from : null,
          quietUntil: quiet ? until : null,
        });
      }}
    >
      <label className="tick">
        <input type="checkbox" checked={quiet} onChange={(event) => setQuiet(event.target.checked)} />
        <span>
          Quiet hours
          <span className="soft"> · what can wait comes when they end; acceptances and first connections do not</span>
        </span>
      </label>
      {quiet && (
        <div className="period">
          <label className="field">
            <span>From</span>
            <input type="time" required value={from} onChange={(event) => setFrom(event.target.value)} />
          </label>
          <label className="field">
            <span>Until</span>
            <input type="time" required value={until} onChange={(event) => setUntil(event.target.value)} />
          </label>
          <label className="field">
            <span>Time zone</span>
            <select value={zone} onChange={(event) => setZone(event.target.value)}>
              {zones.map((name) => (
                <option key={name}>{name}</option>
              ))}
            </select>
          </label>
        </div>
      )}
      <div className="period">
        <label className="field">
          <span>Language of notices</span>
          <select value={language} onChange={(event) => setLanguage(event.target.value)}>
            {LANGUAGES.map(([code, words]) => (
              <option key={code} value={code}>
                {words}
              </option>
            ))}
            {!LANGUAGES.some(([code]) => code === language) && <option>{language}</option>}
          </select>
        </label>
      </div>
      {quiet && from === until && <p className="soft">The two times must differ.</p>}
      <Problem error={save.error} />
      <p className="card-actions">
        <button type="submit" disabled={save.isPending || (quiet && from === until)}>
          {save.isPending ? 'Saving…' : 'Save hours and language'}
        </button>
      </p>
    </form>
  );
}
