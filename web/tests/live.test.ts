import { describe, expect, test } from 'vitest';
import { codecOf, parameterSets, Pictures } from '../src/live/h264';
import { controlOf, encoded, type Frame, type Message, Reader, videoOf } from '../src/live/rtsp';

const text = (words: string) => new TextEncoder().encode(words);

describe('a stream is cut into messages and frames', () => {
  const answer = text('RTSP/1.0 200 OK\r\nCSeq: 1\r\nContent-Length: 3\r\n\r\nv=0');
  const frame = Uint8Array.of(0x24, 0, 0, 2, 7, 8);
  const request = text('TEARDOWN rtsp://g/cam RTSP/1.0\r\nCSeq: 1\r\nLatchkey-Code: ACCESS_DENIED\r\n\r\n');
  const stream = Uint8Array.from([...frame, ...answer, ...text('\r\n'), ...frame, ...request]);

  test.each([1, 2, 3, 7, 1000])('in pieces of %i bytes', (size) => {
    const reader = new Reader();
    const found: (Message | Frame)[] = [];
    for (let at = 0; at < stream.length; at += size) found.push(...reader.feed(stream.subarray(at, at + size)));
    expect(found).toHaveLength(4);
    expect(found[0]).toEqual({ channel: 0, data: Uint8Array.of(7, 8) });
    expect(found[1]).toMatchObject({ status: 200, body: 'v=0' });
    expect(found[3]).toMatchObject({ status: null, method: 'TEARDOWN' });
    expect((found[3] as Message).headers.get('latchkey-code')).toBe('ACCESS_DENIED');
  });

  test.each(['HTTP/1.1 200 OK\r\n\r\n', `${'x'.repeat(70_000)}`, 'RTSP/1.0 200 OK\r\nContent-Length: -1\r\n\r\n'])(
    'what is no RTSP is refused',
    (words) => {
      expect(() => new Reader().feed(text(words))).toThrow(SyntaxError);
    },
  );

  test('a request is written as it is read', () => {
    const [read] = new Reader().feed(encoded('PLAY', 'rtsp://g/cam/', { CSeq: '3', Session: 'a' }));
    expect(read).toMatchObject({ method: 'PLAY' });
    expect((read as Message).headers.get('session')).toBe('a');
  });
});

describe('a description tells', () => {
  const description = [
    'v=0', 'm=audio 0 RTP/AVP 0', 'a=control:track0',
    'm=video 0 RTP/AVP 96', 'a=rtpmap:96 H264/90000', 'a=control:track1',
    'a=fmtp:96 packetization-mode=1;profile-level-id=42C01E;sprop-parameter-sets=Z0LAHg==,aM4=',
    'm=audio 0 RTP/AVP 8', 'a=control:track2',
  ].join('\r\n');

  test('the picture, where it is and how it is made', () => {
    const video = videoOf(description);
    expect(video).toMatchObject({ encoding: 'H264', clock: 90_000, control: 'track1' });
    expect(codecOf([], video?.parameters.get('profile-level-id'))).toBe('avc1.42c01e');
    expect(codecOf(parameterSets(video?.parameters.get('sprop-parameter-sets')), undefined)).toBe('avc1.42c01e');
    expect(codecOf([], undefined)).toBeNull();
  });

  test('that there is none', () => expect(videoOf('v=0\r\nm=audio 0 RTP/AVP 0')).toBeNull());

  test.each([
    ['rtsp://g/cam/live/', 'track0', 'rtsp://g/cam/live/track0'],
    ['rtsp://g/cam/live', 'track0', 'rtsp://g/cam/live/track0'],
    ['rtsp://g/cam/live', 'rtsp://g/cam/live/track0', 'rtsp://g/cam/live/track0'],
    ['rtsp://g/cam/live/', '*', 'rtsp://g/cam/live/'],
  ])('where to set up %s %s', (base, control, wanted) => expect(controlOf(base, control)).toBe(wanted));
});

describe('packets become pictures', () => {
  const SPS = Uint8Array.of(0x67, 0x42, 0xc0, 0x1e);
  const PPS = Uint8Array.of(0x68, 1);
  const packet = (sequence: number, stamp: number, mark: boolean, payload: number[]) =>
    Uint8Array.from([
      0x80, (mark ? 128 : 0) | 96, sequence >> 8, sequence & 255,
      (stamp >>> 24) & 255, (stamp >>> 16) & 255, (stamp >>> 8) & 255, stamp & 255, 0, 0, 0, 1, ...payload,
    ]);
  const made = () => new Pictures(90_000, [SPS, PPS]);

  test('a fragmented one gets the parameter sets, and times in microseconds across 2^32', () => {
    const pictures = made();
    const first = 0xffff_ffff - 2999;
    expect(pictures.push(packet(65_534, first, false, [0x7c, 0x85, 1, 2]))).toEqual([]);
    expect(pictures.push(packet(65_535, first, true, [0x7c, 0x45, 3]))).toEqual([
      { key: true, time: 0, data: Uint8Array.from([0, 0, 0, 1, ...SPS, 0, 0, 0, 1, ...PPS, 0, 0, 0, 1, 0x65, 1, 2, 3]) },
    ]);
    expect(pictures.push(packet(0, 0, true, [0x41, 9]))).toEqual([
      { key: false, time: 33_333, data: Uint8Array.of(0, 0, 0, 1, 0x41, 9) },
    ]);
  });

  test('sets that come with a picture are not doubled', () => {
    const [picture] = made().push(packet(1, 0, true, [0x78, 0, 4, ...SPS, 0, 2, ...PPS, 0, 2, 0x65, 7]));
    expect(picture?.data).toHaveLength(3 * 4 + 4 + 2 + 2);
    expect(picture?.key).toBe(true);
  });

  test('without a mark one is whole when the next begins', () => {
    const pictures = made();
    pictures.push(packet(1, 0, false, [0x65, 7]));
    expect(pictures.push(packet(2, 3000, false, [0x41, 8]))).toMatchObject([{ key: true }]);
  });

  test('after a gap nothing comes until one that can be begun with', () => {
    const pictures = made();
    expect(pictures.push(packet(1, 0, true, [0x41, 1]))).toEqual([]); // nothing to begin with yet
    expect(pictures.push(packet(2, 3000, true, [0x65, 1]))).toHaveLength(1);
    expect(pictures.push(packet(4, 6000, true, [0x41, 1]))).toEqual([]);
    expect(pictures.push(packet(5, 9000, true, [0x65, 1]))).toHaveLength(1);
    expect(pictures.push(packet(6, 12_000, true, [0x41, 1]))).toHaveLength(1);
  });

  test.each([[], [0x80], [0x80, 96, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1], [0xb0, 96, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1, 9]])(
    'what is no packet is nothing: %j',
    (...bytes) => expect(made().push(Uint8Array.from(bytes))).toEqual([]),
  );
});
