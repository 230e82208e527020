// What depends on time alone is told by nobody.
import { useEffect, useState } from 'react';

const LONGEST_MS = 2 ** 31 - 1; // a timer takes no more

/** The time, in milliseconds since 1970; renders again as each of these moments comes. */
export function useTime(moments: readonly number[]): number {
  const [now, setNow] = useState(Date.now);
  const next = Math.min(...moments.filter((moment) => moment > now));
  useEffect(() => {
    if (!Number.isFinite(next)) return;
    const timer = setTimeout(() => setNow(Date.now()), Math.min(Math.max(next - Date.now(), 0), LONGEST_MS));
    return () => clearTimeout(timer);
  }, [next, now]);
  return now;
}
