// RTSP/1.0 (RFC 2326) as far as a viewer needs it: messages, interleaved frames, and what a description offers. Pure.

export interface Message {
  /** Of an answer; null: a request of the server's. */
  readonly status: number | null;
  /** Of a request. */
  readonly method: string;
  /** Names in small letters. */
  readonly headers: ReadonlyMap<string, string>;
  readonly body: string;
}

/** Media on one of the channels that were agreed on. */
export interface Frame {
  readonly channel: number;
  readonly data: Uint8Array;
}

const DOLLAR = 0x24;
const MOST_HEAD = 64 * 1024;

/** Cuts a stream of bytes into messages and frames, wherever its pieces begin and end. */
export class Reader {
  #rest: Uint8Array = new Uint8Array();

  /** What is whole by now; throws `SyntaxError` when it is not RTSP. */
  feed(data: Uint8Array): (Message | Frame)[] {
    let bytes = joined(this.#rest, data);
    const found: (Message | Frame)[] = [];
    for (;;) {
      while (bytes[0] === 13 || bytes[0] === 10) bytes = bytes.subarray(1); // between messages
      const [item, taken] = bytes[0] === DOLLAR ? frameIn(bytes) : messageIn(bytes);
      if (!item) break;
      found.push(item);
      bytes = bytes.subarray(taken);
    }
    this.#rest = bytes.slice();
    return found;
  }
}

function joined(one: Uint8Array, other: Uint8Array): Uint8Array {
  if (!one.length) return other;
  const both = new Uint8Array(one.length + other.length);
  both.set(one);
  both.set(other, one.length);
  return both;
}

function frameIn(bytes: Uint8Array): [Frame, number] | [null, 0] {
  if (bytes.length < 4) return [null, 0];
  const end = 4 + (((bytes[2] ?? 0) << 8) | (bytes[3] ?? 0));
  if (bytes.length < end) return [null, 0];
  return [{ channel: bytes[1] ?? 0, data: bytes.slice(4, end) }, end];
}

function messageIn(bytes: Uint8Array): [Message, number] | [null, 0] {
  const end = endOfHead(bytes);
  if (end < 0) {
    if (bytes.length > MOST_HEAD) throw new SyntaxError('a head without an end');
    return [null, 0];
  }
  const [first = '', ...lines] = new TextDecoder().decode(bytes.subarray(0, end - 4)).split('\r\n');
  const headers = new Map<string, string>();
  for (const line of lines) {
    const colon = line.indexOf(':');
    if (colon > 0) headers.set(line.slice(0, colon).trim().toLowerCase(), line.slice(colon + 1).trim());
  }
  const length = Number(headers.get('content-length') ?? 0);
  if (!Number.isSafeInteger(length) || length < 0) throw new SyntaxError('a body without a length');
  if (bytes.length < end + length) return [null, 0];
  const body = new TextDecoder().decode(bytes.subarray(end, end + length));
  const answer = /^RTSP\/1\.0 (\d{3})/.exec(first);
  const request = /^([A-Z_]+) \S+ RTSP\/1\.0$/.exec(first);
  if (!answer && !request) throw new SyntaxError('no message of RTSP');
  const message = { status: answer ? Number(answer[1]) : null, method: request?.[1] ?? '', headers, body };
  return [message, end + length];
}

function endOfHead(bytes: Uint8Array): number {
  for (let at = bytes.indexOf(13); at >= 0; at = bytes.indexOf(13, at + 1))
    if (bytes[at + 1] === 10 && bytes[at + 2] === 13 && bytes[at + 3] === 10) return at + 4;
  return -1;
}

/** A request, as it is sent. */
export function encoded(method: string, uri: string, headers: Readonly<Record<string, string>>): Uint8Array {
  const lines = Object.entries(headers).map(([name, value]) => `${name}: ${value}\r\n`);
  return new TextEncoder().encode(`${method} ${uri} RTSP/1.0\r\n${lines.join('')}\r\n`);
}

/** What a description (SDP, RFC 8866) offers to look at. */
export interface Video {
  /** As it names itself: `H264`, `H265`, … */
  readonly encoding: string;
  /** Of its times, in a second. */
  readonly clock: number;
  readonly control: string;
  readonly parameters: ReadonlyMap<string, string>;
}

/** The first picture that a description offers. */
export function videoOf(description: string): Video | null {
  const lines = description.split(/\r?\n/);
  const begins = lines.findIndex((line) => line.startsWith('m=video '));
  if (begins < 0) return null;
  const length = lines.slice(begins + 1).findIndex((line) => line.startsWith('m='));
  const section = lines.slice(begins, length < 0 ? undefined : begins + 1 + length);
  const type = section[0]?.split(' ')[3] ?? '';
  const told = (name: string) => section.find((line) => line.startsWith(`a=${name}`))?.slice(name.length + 2);
  const map = /^([\w.-]+)\/(\d+)/.exec(told(`rtpmap:${type} `) ?? '');
  if (!map) return null;
  const parameters = new Map(
    (told(`fmtp:${type} `) ?? '').split(';').map((part): [string, string] => {
      const [name = '', ...value] = part.trim().split('=');
      return [name.toLowerCase(), value.join('=')];
    }),
  );
  const [, encoding = '', clock = ''] = map;
  return { encoding: encoding.toUpperCase(), clock: Number(clock), control: told('control:') ?? '', parameters };
}

/** Where a stream of a description is set up. */
export function controlOf(base: string, control: string): string {
  if (!control || control === '*') return base;
  if (/^rtsps?:/.test(control)) return control;
  return `${base.replace(/\/?$/, '/')}${control}`;
}
