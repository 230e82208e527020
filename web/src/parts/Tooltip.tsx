import { type ReactNode, useState } from 'react';

/** Words that show on hover and on keyboard focus of what is inside, until Escape. */
export function Tooltip({ words, children }: { words: string; children: ReactNode }) {
  const [hidden, setHidden] = useState(false);
  return (
    <span
      className={hidden ? 'tipped hidden' : 'tipped'}
      onKeyDown={(event) => event.key === 'Escape' && setHidden(true)}
      onMouseLeave={() => setHidden(false)}
      onBlur={() => setHidden(false)}
    >
      {children}
      <span className="tip" aria-hidden="true">
        {words}
      </span>
    </span>
  );
}
