// Notices in this browser while no page of ours is open: the service worker's registration and subscription.
import { AddPush, RemovePush } from '../generated';
import { ask, Refusal } from '../lib/graphql';
import { page } from '../lib/page';

const WORKER = '/static/push-worker.js';
const KEPT = 'latchkey.push';

/** `blocked`: the person has told the browser so, and only he can undo it there. */
export type PushState = 'unsupported' | 'blocked' | 'off' | 'on';

/** Whose notices come here, and the subscription's id at the server. */
function kept(): { account: string; id: string } | null {
  return JSON.parse(localStorage.getItem(KEPT) ?? 'null');
}

export async function pushState(): Promise<PushState> {
  if (!('serviceWorker' in navigator && 'PushManager' in globalThis)) return 'unsupported';
  if (Notification.permission === 'denied') return 'blocked';
  const registration = await navigator.serviceWorker.getRegistration('/');
  return kept()?.account === page.account && (await registration?.pushManager.getSubscription()) ? 'on' : 'off';
}

/** Ask for permission and subscribe with the server's public key; throws `Refusal`. */
export async function turnPushOn(key: string): Promise<void> {
  if ((await Notification.requestPermission()) !== 'granted')
    throw new Refusal('PUSH_BLOCKED', 'The browser does not let us show notices. Allow it in its settings.');
  await navigator.serviceWorker.register(WORKER, { scope: '/' });
  const { pushManager } = await navigator.serviceWorker.ready;
  await (await pushManager.getSubscription())?.unsubscribe(); // it may be with an earlier key
  let subscription: PushSubscription;
  try {
    subscription = await pushManager.subscribe({ userVisibleOnly: true, applicationServerKey: key });
  } catch {
    throw new Refusal('PUSH_UNAVAILABLE', "The browser's push service cannot be reached. Try again later.");
  }
  const { endpoint = '', keys = {} } = subscription.toJSON();
  const added = await ask(AddPush, { endpoint, p256dh: keys.p256dh ?? '', auth: keys.auth ?? '' });
  localStorage.setItem(KEPT, JSON.stringify({ account: page.account, id: added.addPushSubscription }));
}

/** Nothing comes here any more. */
export async function turnPushOff(): Promise<void> {
  const id = kept()?.id;
  await unsubscribe();
  if (id) await ask(RemovePush, { id });
}

/** Somebody else has signed in here: what is told to the one before him is none of his business. */
export async function leaveOthersPushes(): Promise<void> {
  if (kept() && kept()?.account !== page.account) await unsubscribe();
}

async function unsubscribe(): Promise<void> {
  localStorage.removeItem(KEPT);
  const registration = await navigator.serviceWorker?.getRegistration('/');
  await (await registration?.pushManager.getSubscription())?.unsubscribe();
}
