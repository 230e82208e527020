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

/** The name of a service in the target of HTTP CONNECT (docs/adr/0018). */
export function hostName(service: string): string {
  const label = /^[0-9A-F]{2}(:[0-9A-F]{2})+$/.test(service)
    ? service.replaceAll(':', '-').toLowerCase()
    : service.replace(/[^a-z0-9.]/g, (letter) => `_${letter.charCodeAt(0).toString(16).padStart(2, '0')}`);
  return `${label}.latchkey`;
}

const TOKEN = '$LATCHKEY_TOKEN';

/** What to type to come to a service through a gateway's proxy at `access`, with a token in the environment. */
export function proxyCommands(access: string, protocol: string, service: string): Command[] {
  const { protocol: scheme, hostname, port } = new URL(access);
  const secure = scheme === 'https:';
  const door = port || (secure ? '443' : '80');
  const name = hostName(service);
  const tunnel = (target: string) =>
    secure
      ? `proxytunnel -q -E -p ${hostname}:${door} -d ${target} -H "Proxy-Authorization: Bearer ${TOKEN}"`
      : `socat - PROXY:${hostname}:${target},proxyport=${door},proxyauth=me:${TOKEN}`;
  switch (protocol) {
    case 'ssh':
      return [
        { label: 'Terminal', text: `ssh -o ProxyCommand='${tunnel('%h:%p')}' you@${name}` },
        { label: 'Copy files', text: `scp -o ProxyCommand='${tunnel('%h:%p')}' FILE you@${name}:` },
        { label: '~/.ssh/config', text: `Host *.latchkey\n  ProxyCommand ${tunnel('%h:%p')}` },
      ];
    case 'http':
      return [
        {
          label: 'curl',
          text: `curl -p -x ${access} --proxy-header "Proxy-Authorization: Bearer ${TOKEN}" http://${name}/`,
        },
      ];
    default:
      return [
        {
          label: 'Local port',
          text: secure
            ? `${tunnel(`${name}:1`)} -a 15900`
            : `socat TCP-LISTEN:15900,bind=127.0.0.1,reuseaddr,fork ${tunnel(`${name}:1`).replace('socat - ', '')}`,
        },
      ];
  }
}
