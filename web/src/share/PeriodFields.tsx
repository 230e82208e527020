import { toInput } from '../lib/words';

/** Start and end as the fields hold them: local time, or empty. */
export interface Period {
  readonly starts: string;
  readonly ends: string;
}

interface Props {
  period: Period;
  onChange: (period: Period) => void;
}

const DAY_MS = 24 * 60 * 60 * 1000;
const QUICK = [
  ['1 day', 1],
  ['1 week', 7],
  ['30 days', 30],
] as const;

/** From when and until when; both may be left empty. */
export function PeriodFields({ period, onChange }: Props) {
  const endIn = (days: number) => {
    const from = period.starts ? new Date(period.starts).getTime() : Date.now();
    onChange({ ...period, ends: toInput(new Date(from + days * DAY_MS).toISOString()) });
  };
  return (
    <div className="period">
      <label className="field">
        <span>Start</span>
        <input
          type="datetime-local"
          value={period.starts}
          onChange={(event) => onChange({ ...period, starts: event.target.value })}
        />
        <small>Empty: once it is accepted</small>
      </label>
      <label className="field">
        <span>End</span>
        <input
          type="datetime-local"
          value={period.ends}
          onChange={(event) => onChange({ ...period, ends: event.target.value })}
        />
        <small>Empty: until you end it</small>
      </label>
      <p className="quick">
        {QUICK.map(([words, days]) => (
          <button type="button" className="small" key={days} onClick={() => endIn(days)}>
            For {words}
          </button>
        ))}
        {period.ends && (
          <button type="button" className="small" onClick={() => onChange({ ...period, ends: '' })}>
            No end
          </button>
        )}
      </p>
    </div>
  );
}
