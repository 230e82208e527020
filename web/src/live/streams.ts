// Which services are cameras that can be watched, and by which of several addresses.
import type { Device } from '../devices/devices';

/** The cameras of a device that the caller may see live. */
export function camerasOf(device: Pick<Device, 'services'>): Device['services'] {
  return device.services.filter(
    ({ protocol, permissions }) => protocol === 'rtsp' && permissions.some((item) => item.toLowerCase() === 'live_view'),
  );
}

/** Encrypted, but for an installation that is not itself: only a machine of one's own is reached so. */
export function addressOf(urls: readonly string[]): string {
  const plain = location.protocol === 'http:' ? urls.find((url) => /^(rtsp|ws):/.test(url)) : undefined;
  return plain ?? urls[0] ?? '';
}
