// The tests of every wrapper. The model is clients/conformance/models.js.
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { describe, test } from 'node:test';
import { InsufficientCredits, Refused, Unavailable, type Units } from '@ai-credits/client';
import { serve } from './server.ts';
import { Account } from './stack.ts';

/** The answer of the model. models.js reads it from the user's message. */
export type Plan = Record<string, unknown> & { id?: string };

/** The units that are held for each call, and count for the input of a call whose usage is not reported. */
export const HELD: Units = { input_tokens: 77, output_tokens: 500 };
/** The usage of a plan without counts. */
export const USED: Units = { input_tokens: 10, output_tokens: 20 };
// The model stops after these deltas: "word1 word2 word3 word4 ", 24 bytes.
const MIDWAY = 4;
const OUTPUT_MIDWAY = 6;

/** A wrapper around an SDK, and how its calls are made. Each call is of a wrapper of its own. */
export interface Driver {
  name: string;
  model: string;
  /** Whether a stream reports its input at the start. */
  reportsInput: boolean;
  /** The classes that the API reports beside `input_tokens` and `output_tokens`. */
  classes: string[];
  /** Whether the SDK retries within a hold, or with a hold for each attempt. */
  retries: 'within a hold' | 'with holds';
  plain(account: Account, prompt: string, signal?: AbortSignal): Promise<string>;
  /** Streams an answer. Leaves the stream once `show` returns false. */
  stream(account: Account, prompt: string, show: (text: string) => boolean, signal?: AbortSignal): Promise<void>;
  /** Asks, runs the tool that the model calls, and asks again with its result. */
  tools(account: Account, prompt: string): Promise<string>;
  /** Returns whether an error is the SDK's for a status of the model. */
  isOf(error: unknown, status: number): boolean;
}

const modelsUrl = process.env['AI_CREDITS_MODELS'];
assert(modelsUrl, 'start the test by models.js, which sets AI_CREDITS_MODELS');
export const MODELS: string = modelsUrl;

/** Returns the attempts of a call that reached the model. */
export async function attempts(id: string): Promise<number> {
  const response = await fetch(`${MODELS}/_requests?id=${id}`);
  return ((await response.json()) as { count: number }).count;
}

export function prompt(plan: Plan = {}): string {
  return JSON.stringify({ id: randomUUID(), ...plan });
}

/** Returns the usage of a stream that stops midway. */
const midway = ({ reportsInput }: Driver): Units => ({ ...(reportsInput ? USED : HELD), output_tokens: OUTPUT_MIDWAY });

export function wrapperTests(driver: Driver): void {
  const { name, model, classes } = driver;
  const open = (granted?: string) => Account.open([model], granted);
  const all = async (account: Account, plan: Plan) => {
    let text = '';
    await driver.stream(account, prompt(plan), (part) => ((text += part), true));
    return text;
  };

  describe(name, { concurrency: true }, () => {
    test('a plain answer costs its usage', async () => {
      const account = await open();
      assert.match(await driver.plain(account, prompt()), /^word1 .*word20 $/);
      await account.assertPaid([USED]);
    });

    test('a stream costs its usage', async () => {
      const account = await open();
      assert.match(await all(account, {}), /^word1 .*word20 $/);
      await account.assertPaid([USED]);
    });

    const counts = { cached: 300, cache_write: 200, reasoning: 50 };
    const units = { cached_input_tokens: 300, cache_write_tokens: 200, reasoning_tokens: 50 };
    const detailed = { ...USED, ...Object.fromEntries(Object.entries(units).filter(([unit]) => classes.includes(unit))) };

    test('cached and reasoning tokens are counted once', async () => {
      const account = await open();
      await driver.plain(account, prompt(counts));
      await account.assertPaid([detailed]);
    });

    test('cached and reasoning tokens of a stream are counted once', async () => {
      const account = await open();
      await all(account, counts);
      await account.assertPaid([detailed]);
    });

    test('each call of a loop with tools is paid', async () => {
      const account = await open();
      await driver.tools(account, prompt({ functions: 1 }));
      await account.assertPaid([USED, USED]);
    });

    test('an aborted stream costs what was streamed', async () => {
      const account = await open();
      const controller = new AbortController();
      let shown = 0;
      const show = () => {
        if (++shown === MIDWAY) controller.abort();
        return true;
      };
      const plan = prompt({ stall_after: MIDWAY });
      // Some SDKs end an aborted stream, and some throw.
      await driver.stream(account, plan, show, controller.signal).catch((error: Error) => assert.match(error.message, /abort/i));
      assert.equal(shown, MIDWAY);
      await account.assertPaid([midway(driver)]);
      await assertEstimated(account);
    });

    test('a stream that is left costs what was streamed', async () => {
      const account = await open();
      let shown = 0;
      await driver.stream(account, prompt({ stall_after: MIDWAY }), () => ++shown < MIDWAY);
      await account.assertPaid([midway(driver)]);
      await assertEstimated(account);
    });

    test('a stream that breaks costs what was streamed', async () => {
      const account = await open();
      await assert.rejects(all(account, { break_after: MIDWAY }));
      await account.assertPaid([midway(driver)]);
    });

    test('a stream in which the model fails costs what was streamed', async () => {
      const account = await open();
      await assert.rejects(all(account, { error_after: MIDWAY }));
      // The error reaches the caller after the settlement.
      assert.equal((await account.workspace.getBalance()).held, '0');
      await account.assertPaid([midway(driver)]);
    });

    test('a plain answer that breaks costs nothing', async () => {
      const account = await open();
      await assert.rejects(driver.plain(account, prompt({ break_after: 0 })));
      await account.assertPaid([]);
    });

    test('a stream that fails before any text costs nothing', async () => {
      const account = await open();
      await assert.rejects(all(account, { error_after: 0 }));
      await account.assertPaid([]);
    });

    test('a stream without usage costs what was streamed', async () => {
      const account = await open();
      await all(account, { usage: false });
      const { input_tokens: input } = midway(driver);
      await account.assertPaid([{ input_tokens: input!, output_tokens: Math.ceil((9 * 6 + 11 * 7) / 4) }]);
      await assertEstimated(account);
    });

    test('an aborted plain answer costs nothing', async () => {
      const account = await open();
      const controller = new AbortController();
      const answer = assert.rejects(driver.plain(account, prompt({ stall_after: 0 }), controller.signal), /abort/i);
      while ((await account.workspace.getBalance()).held === '0') continue;
      controller.abort();
      await answer;
      await account.assertPaid([]);
    });

    for (const status of [429, 500]) {
      test(`a model that answers ${status} costs nothing`, async () => {
        const account = await open();
        await assert.rejects(driver.plain(account, prompt({ fail: { status } })), (error) => driver.isOf(error, status));
        await account.assertPaid([]);
        await assert.rejects(all(account, { fail: { status } }), (error) => driver.isOf(error, status));
        await account.assertPaid([]);
      });

      test(`an answer after two times ${status} costs its usage`, async () => {
        const account = await open();
        const plan: Plan = { id: randomUUID(), fail: { status, times: 2 } };
        await driver.plain(account, prompt(plan));
        assert.equal(await attempts(plan.id!), 3);
        await account.assertPaid([USED]);
        const holds = driver.retries === 'within a hold' ? 1 : 3;
        assert.equal(account.holds, holds);
      });
    }

    test('without enough credits the model is not called', async () => {
      const account = await open('0.5');
      const plan: Plan = { id: randomUUID() };
      await assert.rejects(driver.plain(account, prompt(plan)), InsufficientCredits);
      await assert.rejects(all(account, plan), InsufficientCredits);
      assert.equal(await attempts(plan.id!), 0);
      await account.assertPaid([], '0.5');
    });

    test('without AI Credits the model is not called', async () => {
      const account = (await open()).at('http://127.0.0.1:1', 500);
      const plan: Plan = { id: randomUUID() };
      await assert.rejects(driver.plain(account, prompt(plan)), Unavailable);
      await assert.rejects(all(account, plan), Unavailable);
      assert.equal(await attempts(plan.id!), 0);
    });

    test('a settlement that fails is thrown, or ends with a stream that is left', async (t) => {
      const closed = { status: 409, json: { code: 'hold_closed', detail: 'The hold is closed.' } };
      const held = { status: 201, json: { hold_id: 'hold_1' } };
      const { baseUrl, received } = await serve(t, ({ path }) => (path.endsWith('/settle') ? closed : held));
      const account = (await open()).at(baseUrl);
      const isClosed = (error: unknown) => error instanceof Refused && error.code === 'hold_closed';
      await assert.rejects(driver.plain(account, prompt()), isClosed);
      await assert.rejects(all(account, {}), isClosed);
      // Node.js fails the test if nobody handles a rejection.
      let shown = 0;
      await driver.stream(account, prompt({ stall_after: MIDWAY }), () => ++shown < MIDWAY).catch(() => {});
      await account.credits.settled().catch(() => {});
      assert.equal(received.length, 6);
    });

    test('usage above the hold is charged as far as the balance covers it', async () => {
      const account = await open('2');
      await driver.plain(account, prompt({ input: 2_000, output: 500 }));
      await account.assertPaid([{ input_tokens: 2_000, output_tokens: 500 }], '2.25');
    });
  });
}

async function assertEstimated(account: Account): Promise<void> {
  const [entry] = (await account.workspace.listLedgerEntries({ limit: 1 }).page()).entries;
  assert(entry?.kind === 'hold_settled');
  assert.deepEqual(entry.line_metadata, [{ line: 0, metadata: { usage: 'estimated' } }]);
}
