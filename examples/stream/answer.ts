// Streams a model's answer and pays for it in parts (docs/calls.md).

interface Question {
  workspace: string;
  id: string; // Names the answer: its idempotency keys begin with it.
  prompt: string;
  inputTokens: number;
  maxTokens: number;
  model: string; // The address of the model.
}

export interface Outcome {
  end: 'completed' | 'aborted' | 'out of credits';
  tokens: number; // Those that were shown.
  credits: string; // What they cost, with base and input.
}

// The operation of the answer. Its base and its input tokens are paid once, before the model is called.
const ANSWER = 'text.generate';
// The operation of a part. It has the answer's rates and the base 0, because each capture pays its operation's base.
const PART = 'text.generate.part';
const MAX_CAPTURES = 100;

// Streams an answer to `show`. Each part is paid before it is shown.
export async function answer(question: Question, show: (text: string) => void, user: AbortSignal): Promise<Outcome> {
  const { workspace, id, inputTokens, maxTokens } = question;
  // One capture pays the input, and one may pay the rest of a part.
  const size = Math.max(200, Math.ceil(maxTokens / (MAX_CAPTURES - 2)));
  const consumer = { kind: 'action', feature: 'assistant', user_id: 'ada' };
  const units = { input_tokens: inputTokens, output_tokens: Math.min(size, maxTokens) };
  const holds = `/v1/workspaces/${workspace}/holds`;
  const placed = await send('POST', holds, { operation: ANSWER, units, consumer, ttl_seconds: 900 }, id);
  if (placed.status === 402) return { end: 'out of credits', tokens: 0, credits: '0' };
  const hold = `${holds}/${placed.body.hold_id}`;

  const capture = (key: string, operation: string, units: object) =>
    send('POST', `${hold}/captures`, { operation, units, consumer, extend: true }, key);

  // Pays for a part, or for the tokens of it that the credits cover. Returns their number.
  const pay = async (part: number, tokens: number): Promise<number> => {
    const paid = await capture(`part_${part}`, PART, { output_tokens: tokens });
    if (paid.status !== 402) return tokens;
    // Without a base, the price is in proportion to the tokens.
    const { available, required } = paid.body;
    const covered = Number((BigInt(tokens) * millionths(available)) / millionths(required));
    if (covered <= 0) return 0;
    const rest = await capture(`part_${part}_covered`, PART, { output_tokens: covered });
    return rest.status === 402 ? 0 : covered;
  };

  let [end, tokens, parts, credits]: [Outcome['end'], number, number, string] = ['completed', 0, 0, '0'];
  const stop = new AbortController();
  try {
    // The hold covers the input, unless the rate card has just changed.
    const input = await capture('input', ANSWER, { input_tokens: inputTokens });
    if (input.status === 402) return { end: 'out of credits', tokens: 0, credits };
    for await (const part of partsOf(question, size, AbortSignal.any([user, stop.signal]))) {
      const paid = await pay((parts += 1), part.length);
      show(part.slice(0, paid).join(''));
      tokens += paid;
      if (paid < part.length) end = 'out of credits';
      if (user.aborted) end = 'aborted';
      if (end !== 'completed') break;
    }
  } catch (error) {
    if (!user.aborted) throw error;
    end = 'aborted';
  } finally {
    stop.abort(); // The model stops, too.
    credits = (await send('POST', `${hold}/settle`, {}, `${id}_settle`)).body.captured;
  }
  return { end, tokens, credits };
}

// Yields the tokens of the model's answer, `size` at a time.
async function* partsOf({ model, prompt, maxTokens }: Question, size: number, signal: AbortSignal): AsyncGenerator<string[]> {
  const messages = [{ role: 'user', content: prompt }];
  const body = JSON.stringify({ stream: true, max_tokens: maxTokens, messages });
  const response = await fetch(model, { method: 'POST', headers: { 'Content-Type': 'application/json' }, body, signal });
  let [unread, part]: [string, string[]] = ['', []];
  for await (const text of response.body!.pipeThrough(new TextDecoderStream())) {
    const lines = (unread + text).split('\n');
    unread = lines.pop()!;
    for (const line of lines) {
      if (!line.startsWith('data: ') || line === 'data: [DONE]') continue;
      // A chunk of this model has one token. Count the tokens of another model with its tokenizer.
      const token = JSON.parse(line.slice('data: '.length)).choices[0]?.delta.content;
      if (token) part.push(token);
      if (part.length < size) continue;
      yield part;
      part = [];
    }
  }
  if (part.length > 0) yield part;
}

// Returns credits in millionths, exact.
export function millionths(credits: string): bigint {
  const [, sign, whole, fraction = ''] = /^(-?)(\d+)(?:\.(\d+))?$/.exec(credits)!;
  return BigInt(sign + whole + fraction.padEnd(6, '0'));
}

// Calls the API. Returns a success or a 402, and throws otherwise. Retries under the same key, which charges nothing twice.
export async function send(method: string, path: string, order?: object, key = ''): Promise<{ status: number; body: any }> {
  const headers: Record<string, string> = { Authorization: `Bearer ${process.env.CREDITS_TOKEN}` };
  if (order) headers['Content-Type'] = 'application/json';
  if (key) headers['Idempotency-Key'] = key;
  for (let attempt = 1; ; attempt++) {
    let [status, body] = [0, ''];
    try {
      const signal = AbortSignal.timeout(30_000);
      const response = await fetch(`${process.env.CREDITS_URL}${path}`, { method, headers, body: JSON.stringify(order), signal });
      [status, body] = [response.status, await response.text()];
    } catch (error) {
      [status, body] = [0, String(error)]; // No whole response came.
    }
    if ([200, 201, 402].includes(status)) return { status, body: JSON.parse(body) };
    if (attempt === 5 || ![0, 429, 500, 502, 503, 504].includes(status)) throw new Error(`${path} ${key}: ${status} ${body}`);
    await new Promise((again) => setTimeout(again, Math.random() * 200 * 2 ** attempt));
  }
}
