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

/** Words for a list that has nothing in it, or for a whole `page` on which there is nothing. */
export function Empty({ title, children, page }: { title: string; children?: ReactNode; page?: boolean }) {
  const Title = page ? 'h1' : 'p';
  return (
    <div className="empty">
      <Title className="empty-title">{title}</Title>
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
