// Ready commands for a way in, by the protocol of its service.

export interface Command {
  readonly label: string;
  readonly text: string;
  /** It can be opened by the browser itself. */
  readonly link?: boolean;
}

/** What to type or open, the most useful first. */
export function commandsFor(protocol: string, { host, port }: { host: string; port: number }): Command[] {
  const at = host.includes(':') ? `[${host}]:${port}` : `${host}:${port}`;
  switch (protocol) {
    case 'ssh':
      return [
        { label: 'Terminal', text: `ssh -p ${port} you@${host}` },
        { label: 'Copy files', text: `scp -P ${port} FILE you@${host}:` },
      ];
    case 'http':
    case 'https':
      return [{ label: 'Browser', text: `${protocol}://${at}/`, link: true }];
    case 'vnc':
      return [{ label: 'Screen', text: `vncviewer ${host}::${port}` }];
    case 'rdp':
      return [{ label: 'Remote desktop', text: `mstsc /v:${at}` }];
    default:
      return [{ label: 'Terminal', text: `nc ${host} ${port}` }];
  }
}

/** How to watch a camera at an address that holds its password. */
export function playersFor(url: string): Command[] {
  return [
    { label: 'Media player', text: url },
    { label: 'VLC', text: `vlc '${url}'` },
    { label: 'ffplay', text: `ffplay -rtsp_transport tcp '${url}'` },
  ];
}
