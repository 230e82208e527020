import { expect, test } from 'vitest';
import { laterOf } from '../src/inbox/invitations';

const NOW = Date.parse('2026-01-01T12:00:00Z');
const LATER = '2026-01-20T12:00:00Z';

test('the newest notice of an invitation tells whether it is put off', () => {
  const entries = [
    { shareId: 'changed', laterUntil: null },
    { shareId: 'put off', laterUntil: LATER },
    { shareId: 'changed', laterUntil: LATER },
    { shareId: 'over', laterUntil: '2026-01-01T11:59:59Z' },
    { shareId: 'put off', laterUntil: null },
  ];
  expect([...laterOf(entries, NOW)]).toEqual(['put off']);
});
