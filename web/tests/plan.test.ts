import { describe, expect, test } from 'vitest';
import { type Choice, EVERYTHING, groupsOf, problemOf, supported } from '../src/share/plan';

const pc = { id: 'pc', services: [{ id: 'pc.ssh', permissions: ['connect'] }] };
const camera = {
  id: 'cam',
  services: [
    { id: 'cam.1', permissions: ['live_view', 'ptz'] },
    { id: 'cam.2', permissions: ['live_view'] },
  ],
};

describe('what is chosen becomes as few operations as can say it', () => {
  test('alike: one, of every service', () => {
    expect(groupsOf([pc, camera], () => EVERYTHING)).toEqual([
      { devices: ['pc', 'cam'], services: null, permissions: null },
    ]);
  });

  test('per device: one for each way', () => {
    const one: Choice = { services: new Set(['cam.2']), permissions: new Set(['LIVE_VIEW']) };
    expect(groupsOf([pc, camera], (id) => (id === 'cam' ? one : EVERYTHING))).toEqual([
      { devices: ['pc'], services: null, permissions: null },
      { devices: ['cam'], services: [{ serviceId: 'cam.2' }], permissions: ['LIVE_VIEW'] },
    ]);
  });

  test('some services of several devices: only those of each', () => {
    const some: Choice = { services: new Set(['pc.ssh', 'cam.1']), permissions: null };
    expect(groupsOf([pc, camera], () => some)).toEqual([
      { devices: ['pc', 'cam'], services: [{ serviceId: 'pc.ssh' }, { serviceId: 'cam.1' }], permissions: null },
    ]);
  });

  test('more than goes into one operation: several, each within what is taken', () => {
    const many = Array.from({ length: 1500 }, (_, number) => ({
      id: `pc-${number}`,
      services: [{ id: `pc-${number}.ssh`, permissions: ['connect'] }],
    }));
    const sizes = (choice: Choice, recipients: number) =>
      groupsOf(many, () => choice, recipients).map(({ devices, services }) => [devices.length, services?.length]);
    expect(sizes(EVERYTHING, 1)).toEqual([[1000, undefined], [500, undefined]]);
    expect(sizes(EVERYTHING, 40)).toEqual([[500, undefined], [500, undefined], [500, undefined]]);
    const ssh: Choice = { services: new Set(many.map((device) => `${device.id}.ssh`)), permissions: null };
    expect(sizes(ssh, 1)).toEqual([[1000, 1000], [500, 500]]);
  });
});

test('nothing is never read as everything', () => {
  expect(problemOf([camera], () => ({ services: new Set(), permissions: null }))).toMatch(/service/);
  expect(problemOf([camera], () => ({ services: new Set(['pc.ssh']), permissions: null }))).toMatch(/service/);
  expect(problemOf([camera], () => ({ services: null, permissions: new Set() }))).toMatch(/permission/);
  expect(problemOf([camera], () => EVERYTHING)).toBeNull();
});

test('only what the devices can do is offered, in one order', () => {
  expect(supported([camera, pc])).toEqual(['CONNECT', 'LIVE_VIEW', 'PTZ']);
  expect(supported([])).toEqual([]);
});
