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

/** Of devices, and of services, that one operation takes; and of either, times recipients. */
const MOST = { named: 1000, withRecipients: 20_000 };

/** As few operations as can say it: one for each way in which some of the devices are shared, or several where that
 * is more than one takes. */
export function groupsOf(
  devices: readonly Shareable[],
  choiceOf: (id: string) => Choice,
  recipients = 1,
): Group[] {
  interface Growing {
    devices: string[];
    services: ServiceSharingOptions[] | null;
    choice: Choice;
  }
  const most = Math.min(MOST.named, Math.floor(MOST.withRecipients / Math.max(1, recipients)));
  const all: Growing[] = [];
  const groups = new Map<string, Growing>();
  for (const device of devices) {
    const choice = choiceOf(device.id);
    const permissions = listOf(choice.permissions);
    const key = `${choice.services ? 'some' : 'all'} ${permissions?.join() ?? 'all'}`;
    const services = device.services.filter((service) => choice.services?.has(service.id));
    let group = groups.get(key);
    if (!group || group.devices.length >= most || (group.services?.length ?? 0) + services.length > most) {
      group = { devices: [], services: choice.services ? [] : null, choice };
      groups.set(key, group);
      all.push(group);
    }
    group.devices.push(device.id);
    for (const service of services) group.services?.push({ serviceId: service.id });
  }
  return all.map(({ devices: ids, services, choice }) => ({
    devices: ids,
    services,
    permissions: listOf(choice.permissions),
  }));
}

function listOf(permissions: Choice['permissions']): SharePermission[] | null {
  return permissions && PERMISSIONS.filter((permission) => permissions.has(permission));
}
