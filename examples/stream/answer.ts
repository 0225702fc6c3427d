// Streams a model's answer and pays for it in parts (docs/calls.md).
import { type AICredits, InsufficientCredits, type Workspace } from '@ai-credits/client';
import type OpenAI from 'openai';

export interface Question {
  workspace: string;
  id: string; // Names the answer: its idempotency keys begin with it.
  prompt: string;
  inputTokens: number;
  maxTokens: number;
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

const consumer = { kind: 'action', feature: 'assistant', user_id: 'ada' } as const;

// Streams an answer to `show`. Each part is paid before it is shown.
export async function answer(
  client: AICredits,
  model: OpenAI,
  question: Question,
  show: (text: string) => void,
  user: AbortSignal,
): Promise<Outcome> {
  const { id, inputTokens, maxTokens } = question;
  const workspace = client.workspace(question.workspace);
  // One capture pays the input, and one may pay the rest of a part.
  const size = Math.max(200, Math.ceil(maxTokens / (MAX_CAPTURES - 2)));
  const units = { input_tokens: inputTokens, output_tokens: Math.min(size, maxTokens) };
  const order = { operation: ANSWER, units, consumer, ttl_seconds: 900 };
  const hold = await unlessShort(workspace.createHold(order, { idempotencyKey: id }));
  if (hold instanceof InsufficientCredits) return { end: 'out of credits', tokens: 0, credits: '0' };
  const payment = new Payment(workspace, hold.hold_id);

  let [end, tokens, parts, credits]: [Outcome['end'], number, number, string] = ['completed', 0, 0, '0'];
  const stop = new AbortController();
  try {
    // The hold covers the input, unless the rate card has just changed.
    const input = await payment.capture('input', ANSWER, { input_tokens: inputTokens });
    if (input instanceof InsufficientCredits) end = 'out of credits';
    else {
      for await (const part of partsOf(model, question, size, AbortSignal.any([user, stop.signal]))) {
        const paid = await payment.part((parts += 1), part.length);
        show(part.slice(0, paid).join(''));
        tokens += paid;
        if (paid < part.length) end = 'out of credits';
        if (user.aborted) end = 'aborted';
        if (end !== 'completed') break;
      }
    }
  } catch (error) {
    if (!user.aborted) throw error;
    end = 'aborted';
  } finally {
    stop.abort(); // The model stops, too.
    credits = (await workspace.settleHold(hold.hold_id, {}, { idempotencyKey: `${id}_settle` })).captured;
  }
  return { end, tokens, credits };
}

/** The captures of one hold. */
class Payment {
  readonly #workspace: Workspace;
  readonly #holdId: string;

  constructor(workspace: Workspace, holdId: string) {
    this.#workspace = workspace;
    this.#holdId = holdId;
  }

  capture(key: string, operation: string, units: Record<string, number>) {
    const order = { operation, units, consumer, extend: true };
    return unlessShort(this.#workspace.createCapture(this.#holdId, order, { idempotencyKey: key }));
  }

  // Pays for a part, or for the tokens of it that the credits cover. Returns their number.
  async part(part: number, tokens: number): Promise<number> {
    const paid = await this.capture(`part_${part}`, PART, { output_tokens: tokens });
    if (!(paid instanceof InsufficientCredits)) return tokens;
    // Without a base, the price is in proportion to the tokens.
    const covered = Number((BigInt(tokens) * millionths(paid.available)) / millionths(paid.required));
    if (covered <= 0) return 0;
    const rest = await this.capture(`part_${part}_covered`, PART, { output_tokens: covered });
    return rest instanceof InsufficientCredits ? 0 : covered;
  }
}

// Yields the tokens of the model's answer, `size` at a time.
async function* partsOf(model: OpenAI, { prompt, maxTokens }: Question, size: number, signal: AbortSignal) {
  const messages = [{ role: 'user' as const, content: prompt }];
  const stream = await model.chat.completions.create(
    { model: 'gpt-6-astra', messages, max_completion_tokens: maxTokens, stream: true },
    { signal },
  );
  let part: string[] = [];
  for await (const chunk of stream) {
    // A chunk of this model has one token. Count the tokens of another model with its tokenizer.
    const token = chunk.choices[0]?.delta.content;
    if (token) part.push(token);
    if (part.length < size) continue;
    yield part;
    part = [];
  }
  if (part.length > 0) yield part;
}

// Returns the refusal of a call for which the credits don't suffice.
async function unlessShort<T>(call: Promise<T>): Promise<T | InsufficientCredits> {
  try {
    return await call;
  } catch (error) {
    if (error instanceof InsufficientCredits) return error;
    throw error;
  }
}

// Returns credits in millionths, exact.
export function millionths(credits: string): bigint {
  const [, sign, whole, fraction = ''] = /^(-?)(\d+)(?:\.(\d+))?$/.exec(credits)!;
  return BigInt(sign + whole + fraction.padEnd(6, '0'));
}
