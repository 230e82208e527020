import { describe, expect, test } from 'vitest';
import { chosen, type Device, sharingInWords } from '../src/devices/devices';
import { permissionsInWords, termsInWords, toInput, fromInput } from '../src/lib/words';
import { addressesIn } from '../src/share/contacts';

function device(fields: Partial<Device>): Device {
  return {
    id: 'd', name: 'Yard', alias: null, kind: 'camera', owned: true, online: false, lastReported: null,
    created: null, scripting: false, shareState: 'none', owner: { id: 'ann', name: 'Ann', email: null },
    sharedWith: { accepted: 0, invited: 0, first: [] }, services: [], beginsIn: null, beginsAt: null, ...fields,
  };
}

describe('the Share icon says who', () => {
  test.each([
    [{}, 'Not shared'],
    [{ owned: false, shareState: 'in' }, 'Shared with you by Ann'],
    [{ sharedWith: { accepted: 1, invited: 0, first: ['b@x.test'] } }, 'Shared by you with b@x.test'],
    [{ sharedWith: { accepted: 0, invited: 1, first: ['b'] } }, 'Shared by you with b (not accepted yet)'],
    [
      { sharedWith: { accepted: 3, invited: 2, first: ['a', 'b', 'c', 'd', 'e'] } },
      'Shared by you with a, b, c and 2 more (2 not accepted yet)',
    ],
    [
      { owned: false, shareState: 'both', sharedWith: { accepted: 2, invited: 0, first: ['b', 'c'] } },
      'Shared with you by Ann. Shared by you with b and c',
    ],
  ])('%j', (fields, words) => {
    expect(sharingInWords(device(fields))).toBe(words);
  });
});

test('each word of a search stands somewhere in the device', () => {
  const yard = device({ services: [{ id: 's', name: 'Live', protocol: 'rtsp', channel: 1, permissions: [] }] });
  const search = (words: string) => chosen([yard], { words, filter: 'all', order: 'name' }).length;
  expect([search('yard LIVE'), search('ann'), search('yard cellar'), search(' ')]).toEqual([1, 1, 0, 1]);
});

test('names are sorted as people count', () => {
  const list = ['Camera 10', 'camera 2', 'Alarm'].map((name, at) => device({ id: `${at}`, name }));
  const names = chosen(list, { words: '', filter: 'all', order: 'name' }).map((item) => item.name);
  expect(names).toEqual(['Alarm', 'camera 2', 'Camera 10']);
});

test('a pasted list of addresses', () => {
  expect(addressesIn('Bob <bob@x.test>, cat@x.test;dan@x.test eve@x.test\n+49 151 1234567\n\nbob@x.test')).toEqual([
    'bob@x.test', 'cat@x.test', 'dan@x.test', 'eve@x.test', '+49 151 1234567',
  ]);
});

test('terms in words', () => {
  const terms = { services: null, permissions: null, scripting: false, startsAt: null, endsAt: null };
  expect(termsInWords(terms, new Map())).toBe('Every service: all permissions');
  const some = { ...terms, services: [{ serviceId: 's', permissions: ['PTZ' as const] }], scripting: true };
  expect(termsInWords(some, new Map([['s', 'Yard']]))).toBe('Yard: move the camera · may run scripts');
  expect(permissionsInWords([])).toBe('nothing');
});

test('a time in a field is the reader’s own', () => {
  const time = '2031-07-01T10:30:00.000Z';
  expect(fromInput(toInput(time))).toBe(time);
  expect(fromInput('')).toBeNull();
});
