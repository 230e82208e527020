// Follows what changes for the signed-in account (Server-Sent Events) and has what is shown read again.
import { type QueryClient, useQueryClient } from '@tanstack/react-query';
import { useEffect, useState } from 'react';
import { refreshDevices } from '../devices/devices';
import { page } from './page';
import { readAgain } from './settled';

const AGAIN_MS = 3000;
const LOST_MS = 5000; // the portal ends a stream every quarter of an hour, and it comes again: nothing to tell of
const SILENT_MS = 40_000; // the server says each 15 s that it is there
/** Lists about shares: whatever happens to a device may change them. */
const ABOUT_SHARES = ['given', 'pastShares', 'history', 'connections', 'contacts'];

/** What is told of without a place in the stream: who comes back to it reads these again. */
const NOT_TOLD_AGAIN = ['connections', 'keys', 'contacts', 'invitations'];

/** Follow as long as the component is there; whether the stream stands. */
export function useLive(): boolean {
  const client = useQueryClient();
  const [connected, setConnected] = useState(true);
  useEffect(() => follow(client, setConnected), [client]);
  return connected;
}

/** Follow until the function that it gives is called; `onConnected` is told whether the stream stands. */
export function follow(client: QueryClient, onConnected: (connected: boolean) => void): () => void {
  let source: EventSource;
  let timer: ReturnType<typeof setTimeout> | undefined;
  let lost: ReturnType<typeof setTimeout> | undefined;
  let silent: ReturnType<typeof setTimeout> | undefined;

  // Also as the page begins: what changed after a list was read and before the stream stood is told by nobody.
  const readAll = () => void readAgain(client);
  /** A line that nobody closed may be dead all the same (a laptop that slept): then a new one is opened. */
  const heard = () => {
    clearTimeout(silent);
    silent = setTimeout(() => {
      source.close();
      lose();
      open();
    }, SILENT_MS);
  };
  const lose = () => {
    lost ??= setTimeout(() => onConnected(false), LOST_MS);
  };
  const open = () => {
    let again = false;
    source = new EventSource('/changes/v1');
    const on = (name: string, does: (event: MessageEvent<string>) => void) =>
      source.addEventListener(name, (event: MessageEvent<string>) => {
        heard();
        does(event);
      });
    heard();
    source.onopen = () => {
      heard();
      if (again) {
        void refreshDevices(client, []); // of what came or went meanwhile nobody tells
        for (const about of NOT_TOLD_AGAIN) void readAgain(client, [about]);
      }
      again = true;
      clearTimeout(lost);
      lost = undefined;
      onConnected(true);
    };
    on('alive', () => undefined);
    on('signed_out', () => {
      stop();
      page.signIn();
    });
    on('ready', readAll);
    on('reload', readAll);
    on('notices', () => void readAgain(client, ['notices']));
    on('notice_settings', () => void readAgain(client, ['noticeSettings']));
    on('access_keys', () => void readAgain(client, ['keys']));
    on('contacts', () => void readAgain(client, ['contacts']));
    on('invitations', () => void readAgain(client, ['invitations']));
    on('devices', (event) => {
      const { device_ids } = JSON.parse(event.data) as { device_ids: string[] };
      void refreshDevices(client, device_ids);
      for (const about of ABOUT_SHARES) void readAgain(client, [about]);
    });
    on('activity', (event) => {
      const { device_ids } = JSON.parse(event.data) as { device_ids: string[] };
      void refreshDevices(client, device_ids); // come or gone
      void readAgain(client, ['connections']);
    });
    source.onerror = () => {
      heard();
      lose();
      if (source.readyState !== EventSource.CLOSED) return; // it comes again by itself, where it was
      clearTimeout(silent);
      timer = setTimeout(open, AGAIN_MS);
    };
  };
  const stop = () => {
    clearTimeout(timer);
    clearTimeout(lost);
    clearTimeout(silent);
    source.close();
  };
  open();
  return stop;
}
