// Plays a camera's live picture onto a canvas: RTSP in a WebSocket of the gateway's, decoded by WebCodecs.
import { codecOf, parameterSets, Pictures } from './h264';
import { controlOf, encoded, type Message, Reader, type Video, videoOf } from './rtsp';

export type State = 'opening' | 'playing' | 'ended';

/** Why nothing is played (any more). */
export type Reason = 'refused' | 'cut' | 'unavailable' | 'lost' | 'format' | 'closed';

interface Options {
  /** `wss://user:password@host/path`. */
  readonly address: string;
  readonly service: string;
  readonly canvas: HTMLCanvasElement;
  readonly onState: (state: State, reason?: Reason) => void;
}

const CUTS: Readonly<Record<string, Reason>> = { UNAVAILABLE: 'unavailable', CUT_BY_HAND: 'cut' };
const PICTURES = 0; // channel; its reports come on the next one
const ALIVE_MS = 20_000;
const MOST_WAITING = 20; // pictures that the decoder has not shown; then it begins anew at the next whole one

export function isPlayable(): boolean {
  return 'VideoDecoder' in globalThis;
}

class Stopped extends Error {
  constructor(readonly reason: Reason) {
    super(reason);
  }
}

/** Play until `stop` is called or the gateway ends it; returns `stop`. */
export function play({ address, service, canvas, onState }: Options): () => void {
  const url = new URL(address);
  const authorization = `Basic ${btoa(`${url.username}:${url.password}`)}`;
  url.username = '';
  url.password = '';
  const uri = `rtsp://${url.host}/${service}/live`;
  const socket = new WebSocket(url, 'rtsp.onvif.org');
  socket.binaryType = 'arraybuffer';
  const reader = new Reader();
  const waiting = new Map<string, (answer: Message) => void>();
  let sequence = 0;
  let session = '';
  let timer: ReturnType<typeof setInterval> | undefined;
  let decoder: VideoDecoder | undefined;
  let pictures: Pictures | undefined;
  let over = false;

  const end = (reason: Reason) => {
    if (over) return;
    over = true;
    clearInterval(timer);
    if (session && socket.readyState === WebSocket.OPEN) send('TEARDOWN', uri);
    socket.close();
    if (decoder?.state !== 'closed') decoder?.close();
    // Whoever may not see the camera does not go on looking at its last picture.
    if (reason === 'refused' || reason === 'cut') canvas.getContext('2d')?.clearRect(0, 0, canvas.width, canvas.height);
    if (reason !== 'closed') onState('ended', reason);
  };

  function send(method: string, at: string, headers: Record<string, string> = {}): string {
    sequence += 1;
    const known = session ? { Session: session } : { Authorization: authorization };
    socket.send(encoded(method, at, { CSeq: String(sequence), ...known, ...headers }) as Uint8Array<ArrayBuffer>);
    return String(sequence);
  }

  async function ask(method: string, at: string, headers: Record<string, string> = {}): Promise<Message> {
    const answer = await new Promise<Message>((resolve) => waiting.set(send(method, at, headers), resolve));
    if (answer.status === 200) return answer;
    throw new Stopped(answer.status === 401 || answer.status === 403 ? 'refused' : 'unavailable');
  }

  async function begin(): Promise<void> {
    const described = await ask('DESCRIBE', uri, { Accept: 'application/sdp' });
    const video = videoOf(described.body);
    if (!video) throw new Stopped('format');
    await prepare(video);
    const base = described.headers.get('content-base') ?? uri;
    const transport = `RTP/AVP/TCP;unicast;interleaved=${PICTURES}-${PICTURES + 1}`;
    const made = await ask('SETUP', controlOf(base, video.control), { Transport: transport });
    session = (made.headers.get('session') ?? '').split(';')[0] ?? '';
    await ask('PLAY', base);
    timer = setInterval(() => send('GET_PARAMETER', base), ALIVE_MS);
  }

  async function prepare(video: Video): Promise<void> {
    const sets = parameterSets(video.parameters.get('sprop-parameter-sets'));
    const codec = codecOf(sets, video.parameters.get('profile-level-id'));
    if (video.encoding !== 'H264' || !codec) throw new Stopped('format');
    const configuration = { codec, optimizeForLatency: true };
    const { supported } = await VideoDecoder.isConfigSupported(configuration);
    if (!supported) throw new Stopped('format');
    if (over) return;
    const context = canvas.getContext('2d');
    decoder = new VideoDecoder({
      output: (frame) => {
        if (canvas.width !== frame.displayWidth || canvas.height !== frame.displayHeight) {
          canvas.width = frame.displayWidth;
          canvas.height = frame.displayHeight;
        }
        context?.drawImage(frame, 0, 0, canvas.width, canvas.height);
        frame.close();
        onState('playing');
      },
      error: () => end('format'),
    });
    decoder.configure(configuration);
    pictures = new Pictures(video.clock, sets);
  }

  function show(packet: Uint8Array): void {
    for (const picture of pictures?.push(packet) ?? []) {
      if (!picture.key && (decoder?.decodeQueueSize ?? 0) > MOST_WAITING) pictures?.skip();
      else
        decoder?.decode(
          new EncodedVideoChunk({ type: picture.key ? 'key' : 'delta', timestamp: picture.time, data: picture.data }),
        );
    }
  }

  function take(item: Message): void {
    const cseq = item.headers.get('cseq') ?? '';
    if (item.status === null) {
      // Of its own accord the gateway says one thing: that it is over, and why.
      if (item.method === 'TEARDOWN') end(CUTS[item.headers.get('latchkey-code') ?? ''] ?? 'refused');
      return;
    }
    if (item.status === 403 && session) end(CUTS[item.headers.get('latchkey-code') ?? ''] ?? 'refused');
    waiting.get(cseq)?.(item);
    waiting.delete(cseq);
  }

  socket.onopen = () => {
    begin().catch((error: unknown) => end(error instanceof Stopped ? error.reason : 'lost'));
  };
  socket.onmessage = ({ data }: MessageEvent<ArrayBuffer>) => {
    try {
      for (const item of reader.feed(new Uint8Array(data))) {
        if (over) return;
        if (!('channel' in item)) take(item);
        else if (item.channel === PICTURES) show(item.data);
      }
    } catch {
      end('lost');
    }
  };
  socket.onclose = () => end('lost');
  onState('opening');
  return () => end('closed');
}
