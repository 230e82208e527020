import { QueryClient, QueryObserver } from '@tanstack/react-query';
import { expect, test } from 'vitest';
import { readAgain } from '../src/lib/settled';

test('what is read for the first time, and was asked before the change, is read again', async () => {
  const client = new QueryClient();
  const answers: (() => void)[] = [];
  let state = 'old';
  const queryFn = () => {
    const read = state;
    return new Promise<string>((resolve) => answers.push(() => resolve(read)));
  };
  const observer = new QueryObserver(client, { queryKey: ['book'], queryFn });
  const stop = observer.subscribe(() => undefined);
  await expect.poll(() => answers.length).toBe(1);
  state = 'new';
  const done = readAgain(client, ['book']);
  answers[0]?.();
  await expect.poll(() => answers.length).toBe(2);
  answers[1]?.();
  await done;
  expect(observer.getCurrentResult().data).toBe('new');
  stop();
});
