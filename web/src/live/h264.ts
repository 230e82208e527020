// H.264 in RTP (RFC 6184), as the pictures that a decoder takes. Pure.

/** One picture, in the form of Annex B. */
export interface Picture {
  readonly data: Uint8Array;
  /** Whether a decoder can begin with it. */
  readonly key: boolean;
  /** Microseconds since the first picture. */
  readonly time: number;
}

const IDR = 5;
const SPS = 7;
const PPS = 8;
const STAP_A = 24;
const FU_A = 28;
const START = [0, 0, 0, 1];

/** The parameter sets that a description names (`sprop-parameter-sets`). */
export function parameterSets(text: string | undefined): Uint8Array[] {
  return (text ?? '')
    .split(',')
    .filter(Boolean)
    .map((part) => Uint8Array.from(atob(part), (letter) => letter.charCodeAt(0)))
    .filter((unit) => unit.length > 3 || typeOf(unit) === PPS);
}

/** What WebCodecs calls the format of these parameter sets; null when they do not tell. */
export function codecOf(sets: readonly Uint8Array[], profile: string | undefined): string | null {
  const sps = sets.find((unit) => typeOf(unit) === SPS);
  const told = sps ? [...sps.subarray(1, 4)].map((byte) => byte.toString(16).padStart(2, '0')).join('') : profile;
  return told && /^[0-9a-f]{6}$/i.test(told) ? `avc1.${told.toLowerCase()}` : null;
}

/** Puts pictures together from packets. After a gap nothing comes until the next picture to begin with. */
export class Pictures {
  readonly #clock: number;
  #sets: Uint8Array[];
  #units: Uint8Array[] = [];
  #fragments: Uint8Array[] | null = null;
  #sequence = -1;
  #stamp = -1;
  #ticks = 0;
  #broken = true;

  /** `clock` is of the packets' times, in a second; `sets` go before each picture that has none of its own. */
  constructor(clock: number, sets: readonly Uint8Array[]) {
    this.#clock = clock;
    this.#sets = [...sets];
  }

  /** Begin anew with the next picture that can be begun with. */
  skip(): void {
    this.#broken = true;
  }

  /** One packet of RTP; the pictures that are whole by it. */
  push(packet: Uint8Array): Picture[] {
    const view = new DataView(packet.buffer, packet.byteOffset, packet.byteLength);
    if (packet.length < 12 || view.getUint8(0) >> 6 !== 2) return [];
    let begins = 12 + 4 * (view.getUint8(0) & 15);
    if (view.getUint8(0) & 16) {
      if (packet.length < begins + 4) return [];
      begins += 4 + 4 * view.getUint16(begins + 2);
    }
    const ends = packet.length - (view.getUint8(0) & 32 ? (packet[packet.length - 1] ?? 0) : 0);
    if (begins >= ends) return [];
    const found: Picture[] = [];
    const stamp = view.getUint32(4);
    const sequence = view.getUint16(2);
    if (this.#stamp >= 0 && stamp !== this.#stamp) found.push(...this.#finish()); // its last packet bore no mark
    if (this.#sequence >= 0 && sequence !== ((this.#sequence + 1) & 0xffff)) this.#lose();
    this.#sequence = sequence;
    this.#ticks += this.#stamp < 0 ? 0 : (stamp - this.#stamp) | 0; // times begin anew after 2^32
    this.#stamp = stamp;
    this.#take(packet.subarray(begins, ends));
    if (view.getUint8(1) & 128) found.push(...this.#finish());
    return found;
  }

  #lose(): void {
    this.#broken = true;
    this.#units = [];
    this.#fragments = null;
  }

  #take(payload: Uint8Array): void {
    const head = payload[0] ?? 0;
    const type = head & 31;
    if (type === STAP_A) {
      for (let at = 1; at + 2 < payload.length; ) {
        const end = at + 2 + (((payload[at] ?? 0) << 8) | (payload[at + 1] ?? 0));
        this.#units.push(payload.subarray(at + 2, end));
        at = end;
      }
    } else if (type === FU_A) {
      const fragment = payload[1] ?? 0;
      if (fragment & 128) this.#fragments = [Uint8Array.of((head & 224) | (fragment & 31))];
      this.#fragments?.push(payload.subarray(2));
      if (fragment & 64 && this.#fragments) {
        this.#units.push(joined(this.#fragments));
        this.#fragments = null;
      }
    } else if (type > 0 && type < STAP_A) this.#units.push(payload);
  }

  #finish(): Picture[] {
    const units = this.#units;
    this.#units = [];
    this.#fragments = null;
    const own = units.filter((unit) => typeOf(unit) === SPS || typeOf(unit) === PPS);
    if (own.some((unit) => typeOf(unit) === SPS)) this.#sets = own;
    const key = units.some((unit) => typeOf(unit) === IDR);
    if (key) this.#broken = false;
    if (this.#broken || !units.some((unit) => typeOf(unit) <= IDR)) return [];
    const whole = key && !own.length ? [...this.#sets, ...units] : units;
    const time = Math.round((this.#ticks / this.#clock) * 1_000_000);
    return [{ data: joined(whole.flatMap((unit) => [Uint8Array.from(START), unit])), key, time }];
  }
}

function typeOf(unit: Uint8Array): number {
  return (unit[0] ?? 0) & 31;
}

function joined(parts: readonly Uint8Array[]): Uint8Array<ArrayBuffer> {
  const whole = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}
