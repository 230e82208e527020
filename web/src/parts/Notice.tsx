import type { ReactNode } from 'react';
import { Refusal } from '../lib/graphql';
import { refusalInWords } from '../lib/words';
import { Icon } from './Icon';

/** Something that went wrong, told where it happened; nothing when nothing did. */
export function Problem({ error, children }: { error: unknown; children?: ReactNode }) {
  if (!error) return null;
  const refusal = error instanceof Refusal ? error : new Refusal('INTERNAL', '');
  return (
    <p className="problem" role="alert">
      <Icon name="warning" />
      <span>
        {refusalInWords(refusal)} {children}
      </span>
    </p>
  );
}

/** Words for a list that has nothing in it. */
export function Empty({ title, children }: { title: string; children?: ReactNode }) {
  return (
    <div className="empty">
      <p className="empty-title">{title}</p>
      {children}
    </div>
  );
}

/** Something is being read. */
export function Loading({ what }: { what: string }) {
  return (
    <p className="loading" role="status">
      <span className="spinner" aria-hidden="true" /> Loading {what}…
    </p>
  );
}
