import type { Call } from './call.ts';
import { outputTokensOf } from './estimate.ts';
import type { Units } from './types.ts';

/** The end of a response: it is complete, the consumer stopped it, or the model failed. */
export type Ending = 'complete' | 'stopped' | 'failed';

/** The kind of a stream's event: passed to the caller, hidden from it, the last one, or the model's error. */
export type EventKind = 'passed' | 'hidden' | 'last' | 'error';

/** Reads the usage of a model's response. */
export abstract class Meter {
  /** The usage that the provider reported for the whole response. */
  reported: Units | undefined;
  /** The input that the provider reported at the start of a stream. */
  reportedInput: Units | undefined;
  /** The bytes of the text, the reasoning and the arguments of tools that were received. */
  bytes = 0;
  /** The number of calls of the provider's own tools that were received. */
  toolCalls = 0;
  /** The units of the hold without its output, which count where the provider reports no input. */
  protected readonly heldInput: Units;

  constructor({ output_tokens: _, ...input }: Units) {
    this.heldInput = input;
  }

  /** Reads the JSON of a whole response. */
  abstract response(body: unknown): void;

  /** Reads the JSON of one event of a stream. */
  abstract event(data: unknown): EventKind;

  /** Settles a call with the usage of its response. Does nothing if the call is settled. */
  async settle(call: Call, ending: Ending): Promise<void> {
    if (this.reported) await call.finish(this.reported);
    else if (this.#hasUsage(ending)) await call.finish(this.#estimated(), { estimated: true });
    else await call.cancel();
  }

  // A provider does not charge for an error before the first output, but for the input of a response that is stopped.
  #hasUsage(ending: Ending): boolean {
    return this.bytes > 0 || this.toolCalls > 0 || (this.reportedInput !== undefined && ending !== 'failed');
  }

  #estimated(): Units {
    const output = { output_tokens: outputTokensOf(this.bytes), tool_calls: this.toolCalls };
    return { ...(this.reportedInput ?? this.heldInput), ...output };
  }
}
