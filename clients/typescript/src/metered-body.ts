import { attach } from './call.ts';
import type { Ending, EventKind, Meter } from './meter.ts';

const END_OF_EVENT = /\r\n\r\n|\n\n|\r\r/;

/** Returns a response whose body is read by a meter, and is settled before its end reaches the caller. */
export async function metered(
  response: Response,
  kind: 'json' | 'events',
  meter: Meter,
  settle: (ending: Ending) => Promise<void>,
): Promise<Response> {
  if (!response.body || response.headers.get('Content-Length') === '0') {
    await settle('complete');
    return response;
  }
  const reading = kind === 'json' ? new JsonReading(meter) : new EventReading(meter);
  // Without a buffer, nothing is read that the caller has not asked for.
  const body = new ReadableStream(new MeteredBody(response.body.getReader(), reading, settle), { highWaterMark: 0 });
  const { status, statusText, headers, url } = response;
  return Object.defineProperty(new Response(body, { status, statusText, headers }), 'url', { value: url });
}

/** Reads a body. Returns the bytes for the caller, and how the response has ended, if it has. */
interface Reading {
  read(chunk: Uint8Array): { bytes: Uint8Array; ending?: Ending | undefined };
  end(): { bytes: Uint8Array; ending: Ending };
}

class MeteredBody implements UnderlyingDefaultSource<Uint8Array> {
  readonly #reader: ReadableStreamDefaultReader<Uint8Array>;
  readonly #reading: Reading;
  readonly #settle: (ending: Ending) => Promise<void>;

  constructor(reader: ReadableStreamDefaultReader<Uint8Array>, reading: Reading, settle: (ending: Ending) => Promise<void>) {
    this.#reader = reader;
    this.#reading = reading;
    this.#settle = settle;
  }

  async pull(controller: ReadableStreamDefaultController<Uint8Array>): Promise<void> {
    try {
      // A pull that enqueues nothing would be the last one.
      while (!(await this.#forward(controller)));
    } catch (error) {
      await this.#settle('failed').catch((settlement: unknown) => attach(error, settlement));
      throw error;
    }
  }

  async cancel(reason: unknown): Promise<void> {
    await this.#reader.cancel(reason).catch(() => {});
    await this.#settle('stopped');
  }

  /** Reads a chunk. Returns whether the caller has got something, if only the end. */
  async #forward(controller: ReadableStreamDefaultController<Uint8Array>): Promise<boolean> {
    const { done, value } = await this.#reader.read();
    const { bytes, ending } = done ? this.#reading.end() : this.#reading.read(value);
    if (ending) await this.#settle(ending);
    if (bytes.length > 0) controller.enqueue(bytes);
    if (done) controller.close();
    return done || bytes.length > 0;
  }
}

class JsonReading implements Reading {
  readonly #meter: Meter;
  readonly #decoder = new TextDecoder();
  #text = '';

  constructor(meter: Meter) {
    this.#meter = meter;
  }

  read(bytes: Uint8Array) {
    this.#text += this.#decoder.decode(bytes, { stream: true });
    return { bytes };
  }

  end() {
    const body = parsed(this.#text);
    if (body !== undefined) this.#meter.response(body);
    return { bytes: new Uint8Array(), ending: 'complete' as const };
  }
}

class EventReading implements Reading {
  readonly #meter: Meter;
  readonly #decoder = new TextDecoder('utf-8', { ignoreBOM: true });
  readonly #encoder = new TextEncoder();
  #rest = '';

  constructor(meter: Meter) {
    this.#meter = meter;
  }

  read(chunk: Uint8Array) {
    this.#rest += this.#decoder.decode(chunk, { stream: true });
    let passed = '';
    let ending: Ending | undefined;
    for (let end = END_OF_EVENT.exec(this.#rest); end; end = END_OF_EVENT.exec(this.#rest)) {
      const event = this.#rest.slice(0, end.index + end[0].length);
      this.#rest = this.#rest.slice(event.length);
      const kind = this.#kindOf(event);
      if (kind !== 'hidden') passed += event;
      if (kind === 'last') ending = 'complete';
      if (kind === 'error') ending = 'failed';
    }
    return { bytes: this.#encoder.encode(passed), ending };
  }

  end() {
    const rest = this.#rest + this.#decoder.decode();
    const kind = this.#kindOf(rest);
    const bytes = this.#encoder.encode(kind === 'hidden' ? '' : rest);
    return { bytes, ending: kind === 'error' ? ('failed' as const) : ('complete' as const) };
  }

  #kindOf(event: string): EventKind {
    const lines = event.split(/\r\n|\n|\r/).filter((line) => line.startsWith('data:'));
    const data = lines.map((line) => line.slice('data:'.length)).join('\n').trim();
    if (data === '[DONE]') return 'last';
    const value = parsed(data);
    return value === undefined ? 'passed' : this.#meter.event(value);
  }
}

/** Returns the object that a text is in JSON. What is none concerns the SDK alone. */
function parsed(text: string): object | undefined {
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === 'object' && value !== null ? value : undefined;
  } catch {
    return undefined;
  }
}
