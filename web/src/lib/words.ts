// What people read: permissions, terms, times, and why something was refused.
import type { ShareOutcome, SharePermission, TermsFragment } from '../generated';
import type { Refusal } from './graphql';

export const PERMISSIONS: readonly SharePermission[] = [
  'CONNECT',
  'LIVE_VIEW',
  'PLAYBACK',
  'TWO_WAY_AUDIO',
  'PTZ',
  'ALARM_NOTIFICATIONS',
  'ARM',
];

const NAMES: Record<SharePermission, string> = {
  CONNECT: 'Connect',
  LIVE_VIEW: 'Live view',
  PLAYBACK: 'Playback',
  TWO_WAY_AUDIO: 'Two-way audio',
  PTZ: 'Move the camera',
  ALARM_NOTIFICATIONS: 'Alarm notifications',
  ARM: 'Arm and disarm',
};

/** A permission as a control names it; `connect` and `CONNECT` are the same. */
export function permissionName(permission: string): string {
  return NAMES[permission.toUpperCase() as SharePermission] ?? permission;
}

/** `a`, `a and b`, `a, b and c`. */
export function listed(parts: readonly string[]): string {
  return parts.length < 2 ? (parts[0] ?? '') : `${parts.slice(0, -1).join(', ')} and ${parts.at(-1)}`;
}

export function count(number: number, one: string, many = `${one}s`): string {
  return `${number.toLocaleString('en')} ${number === 1 ? one : many}`;
}

/** Permissions in the order of `PERMISSIONS`; null means all. */
export function permissionsInWords(permissions: readonly string[] | null): string {
  if (permissions === null) return 'all permissions';
  const given = new Set(permissions.map((permission) => permission.toUpperCase()));
  const names = PERMISSIONS.filter((permission) => given.has(permission)).map((name) => NAMES[name]);
  return names.length ? listed(names).toLowerCase() : 'nothing';
}

/** Terms as one line; `names` are of the device's services, by id. */
export function termsInWords(terms: TermsFragment, names: ReadonlyMap<string, string>): string {
  const { services } = terms;
  const parts: string[] = [];
  if (services === null) parts.push(`Every service: ${permissionsInWords(terms.permissions)}`);
  else parts.push(services.map((item) => serviceInWords(item, names)).join('; '));
  if (terms.scripting) parts.push('may run scripts');
  const period = periodInWords(terms.startsAt, terms.endsAt);
  return [...parts, ...(period ? [period] : [])].join(' · ');
}

function serviceInWords(
  item: { readonly serviceId: string; readonly permissions: readonly string[] | null },
  names: ReadonlyMap<string, string>,
): string {
  return `${names.get(item.serviceId) ?? item.serviceId}: ${permissionsInWords(item.permissions)}`;
}

export function periodInWords(startsAt: string | null, endsAt: string | null): string {
  const from = startsAt && Date.parse(startsAt) > Date.now() ? `from ${moment(startsAt)}` : '';
  return [from, endsAt ? `until ${moment(endsAt)}` : ''].filter(Boolean).join(' ');
}

const FORMAT = new Intl.DateTimeFormat('en-GB', { dateStyle: 'medium', timeStyle: 'short' });

/** A point of time in the reader's own zone. */
export function moment(time: string): string {
  return FORMAT.format(new Date(time));
}

/** What `<input type="datetime-local">` shows for a time, and the other way round. */
export function toInput(time: string | null): string {
  if (!time) return '';
  const local = new Date(time);
  local.setMinutes(local.getMinutes() - local.getTimezoneOffset());
  return local.toISOString().slice(0, 16);
}

export function fromInput(text: string): string | null {
  return text ? new Date(text).toISOString() : null;
}

const OUTCOMES: Record<ShareOutcome, string> = {
  REQUESTED: 'Invited',
  ACCEPTED: 'Shared: accepted by rule',
  CHANGED: 'Changed',
  RESENT: 'Invited again',
  REJECTED: 'Rejected',
  LEFT: 'Given back',
  REVOKED: 'Ended',
  EXPIRED: 'Over',
  UNCHANGED: 'Already so',
  REFUSED: 'Not shared',
};

export function outcomeName(outcome: ShareOutcome): string {
  return OUTCOMES[outcome];
}

const EVENTS: Record<string, string> = {
  ShareRequested: 'Invited',
  ShareAccepted: 'Accepted',
  ShareRejected: 'Rejected',
  ShareChanged: 'Changed',
  InvitationResent: 'Invited again',
  ShareRevoked: 'Ended by the owner',
  ShareLeft: 'Given back',
  ShareExpired: 'Time was over',
};

const REASONS: Record<string, string> = {
  device_removed: 'the device was removed',
  ownership_transferred: 'the device has another owner',
  recipient_deleted: 'the recipient was deleted',
};

/** An event of a share, in words. */
export function eventName(kind: string, reason: string | null): string {
  const name = EVENTS[kind] ?? kind;
  return reason && REASONS[reason] ? `${name}: ${REASONS[reason]}` : name;
}

const REFUSALS: Record<string, string> = {
  OFFLINE: 'The server cannot be reached. Check your connection and try again.',
  UNAVAILABLE: 'A part of the service does not answer at the moment. Nothing is lost; try again.',
  TIMED_OUT: 'That took too long, and nothing was changed. Try again.',
  INTERNAL: 'Something failed here. It is noted; try again later.',
  NOT_YET_VISIBLE: 'Your last change is saved and will show in a moment.',
  INVALID_EMAIL: 'This is not an e-mail address.',
  INVALID_PHONE: 'This is not a telephone number. Write it with its country code, such as +49 151 12345678.',
  INVALID_CONTACT_CODE: 'This code is not valid any more. Ask for a new one.',
  SELF_SHARE: 'This is you.',
  DEVICE_NOT_FOUND: 'This device is not among yours any more.',
  CONFLICT: 'This has changed meanwhile.',
};

/** Why something was refused, for a person. */
export function refusalInWords({ code, message }: Pick<Refusal, 'code' | 'message'>): string {
  return REFUSALS[code] ?? message;
}
