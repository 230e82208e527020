// Pure: what somebody chose in the dialog, as the bulk operations that do it.
import type { ServiceSharingOptions, SharePermission } from '../generated';
import { PERMISSIONS } from '../lib/words';

/** What is shared of one device. `services` null: every service, those added later included; `permissions` null:
 * all that a service supports. */
export interface Choice {
  readonly services: ReadonlySet<string> | null;
  readonly permissions: ReadonlySet<SharePermission> | null;
}

export const EVERYTHING: Choice = { services: null, permissions: null };

/** A device as far as sharing it needs to know. */
export interface Shareable {
  readonly id: string;
  readonly services: readonly { readonly id: string; readonly permissions: readonly string[] }[];
}

/** Devices that are shared alike, so that one bulk operation shares them all. */
export interface Group {
  readonly devices: readonly string[];
  readonly services: readonly ServiceSharingOptions[] | null;
  readonly permissions: readonly SharePermission[] | null;
}

/** What these devices can do, in the order in which it is shown. */
export function supported(devices: readonly Shareable[]): SharePermission[] {
  const found = new Set(devices.flatMap((device) => device.services.flatMap((service) => service.permissions)));
  return PERMISSIONS.filter((permission) => found.has(permission.toLowerCase()));
}

/** Why a choice cannot be shared yet, or null. */
export function problemOf(devices: readonly Shareable[], choiceOf: (id: string) => Choice): string | null {
  for (const device of devices) {
    const { services, permissions } = choiceOf(device.id);
    if (permissions?.size === 0) return 'Choose at least one permission.';
    if (services && !device.services.some((service) => services.has(service.id)))
      return 'Choose at least one service of each device.';
  }
  return null;
}

/** As few operations as can say it: one for each way in which some of the devices are shared. */
export function groupsOf(devices: readonly Shareable[], choiceOf: (id: string) => Choice): Group[] {
  const groups = new Map<string, { devices: string[]; services: ServiceSharingOptions[] | null; choice: Choice }>();
  for (const device of devices) {
    const choice = choiceOf(device.id);
    const permissions = listOf(choice.permissions);
    const key = `${choice.services ? 'some' : 'all'} ${permissions?.join() ?? 'all'}`;
    const group = groups.get(key) ?? { devices: [], services: choice.services ? [] : null, choice };
    groups.set(key, group);
    group.devices.push(device.id);
    for (const service of device.services)
      if (choice.services?.has(service.id)) group.services?.push({ serviceId: service.id });
  }
  return [...groups.values()].map(({ devices: ids, services, choice }) => ({
    devices: ids,
    services,
    permissions: listOf(choice.permissions),
  }));
}

function listOf(permissions: Choice['permissions']): SharePermission[] | null {
  return permissions && PERMISSIONS.filter((permission) => permissions.has(permission));
}
