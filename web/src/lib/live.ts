// Follows what changes for the signed-in account (Server-Sent Events) and has what is shown read again.
import { type QueryClient, useQueryClient } from '@tanstack/react-query';
import { useEffect, useState } from 'react';
import { refreshDevices } from '../devices/devices';
import { readAgain } from './settled';

const AGAIN_MS = 3000;
const LOST_MS = 5000; // the portal ends a stream every quarter of an hour, and it comes again: nothing to tell of
const NOTICE_MS = 1500; // the notice of what the feed tells is written a moment before or after that
/** Lists about shares: whatever happens to a device may change them. */
const ABOUT_SHARES = ['given', 'pastShares', 'history', 'connections'];

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

  let soon: ReturnType<typeof setTimeout> | undefined;
  let more = false; // was told while a reading was due
  const readNotices = () => {
    more = soon !== undefined;
    if (more) return;
    const read = () => {
      void readAgain(client, ['notices']);
      soon = more ? setTimeout(read, NOTICE_MS) : undefined;
      more = false;
    };
    more = true;
    read();
  };
  // Also as the page begins: what changed after a list was read and before the stream stood is told by nobody.
  const readAll = () => void readAgain(client);
  const open = () => {
    let again = false;
    source = new EventSource('/changes/v1');
    source.onopen = () => {
      if (again) void refreshDevices(client, []); // of what came or went meanwhile nobody tells
      again = true;
      clearTimeout(lost);
      lost = undefined;
      onConnected(true);
    };
    source.addEventListener('ready', readAll);
    source.addEventListener('reload', readAll);
    source.addEventListener('invitations', () => {
      void readAgain(client, ['invitations']);
      readNotices();
    });
    source.addEventListener('devices', (event: MessageEvent<string>) => {
      const { device_ids } = JSON.parse(event.data) as { device_ids: string[] };
      void refreshDevices(client, device_ids);
      for (const about of ABOUT_SHARES) void readAgain(client, [about]);
      readNotices();
    });
    source.addEventListener('activity', (event: MessageEvent<string>) => {
      const { device_ids } = JSON.parse(event.data) as { device_ids: string[] };
      void refreshDevices(client, device_ids); // come or gone
      void readAgain(client, ['connections']);
      readNotices();
    });
    source.onerror = () => {
      lost ??= setTimeout(() => onConnected(false), LOST_MS);
      if (source.readyState !== EventSource.CLOSED) return; // it comes again by itself, where it was
      timer = setTimeout(open, AGAIN_MS);
    };
  };
  open();
  return () => {
    clearTimeout(timer);
    clearTimeout(lost);
    clearTimeout(soon);
    source.close();
  };
}
