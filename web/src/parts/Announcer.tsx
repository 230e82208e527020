import { createContext, type ReactNode, useCallback, useContext, useEffect, useState } from 'react';

const Announce = createContext<(words: string) => void>(() => undefined);
const SHOWN_MS = 6000;

/** Says what was done, at the foot of the window and to who listens; gone after a moment. */
export function Announcer({ children }: { children: ReactNode }) {
  const [words, setWords] = useState('');
  useEffect(() => {
    if (!words) return;
    const timer = setTimeout(() => setWords(''), SHOWN_MS);
    return () => clearTimeout(timer);
  }, [words]);
  const announce = useCallback((text: string) => setWords(text), []);
  return (
    <Announce value={announce}>
      {children}
      <p className="announcement" role="status" hidden={!words}>
        {words}
      </p>
    </Announce>
  );
}

export function useAnnounce(): (words: string) => void {
  return useContext(Announce);
}
