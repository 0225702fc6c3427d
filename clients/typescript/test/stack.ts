// A workspace of a running stack, and what its calls have cost.
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { subscribe } from 'node:diagnostics_channel';
import { AICredits, type Consumer, type Units, type Workspace } from '@ai-credits/client';

const { AI_CREDITS_LOCAL: baseUrl, AI_CREDITS_TOKEN: apiKey } = process.env;
assert(baseUrl && apiKey, 'start the test by .ci/on-stack, which sets AI_CREDITS_LOCAL and AI_CREDITS_TOKEN');

export const OPERATION = 'text.generate';
export const CONSUMER: Consumer = { kind: 'action', feature: 'assistant', user_id: 'ada' };
const GRANTED = '1000';

const posts: string[] = [];
subscribe('undici:request:create', (message) => {
  const { method, path } = (message as { request: { method: string; path: string } }).request;
  if (method === 'POST') posts.push(path);
});

/** A workspace with 1,000 credits, in which the models have the prices of the rate card. */
export class Account {
  readonly credits: AICredits;
  readonly workspace: Workspace;

  private constructor(credits: AICredits, id: string) {
    this.credits = credits;
    this.workspace = credits.workspace(id);
  }

  /** The number of holds that were requested. */
  get holds(): number {
    return posts.filter((path) => path === `/v1/workspaces/${this.workspace.id}/holds`).length;
  }

  /** Returns the account at another address. */
  at(url: string, deadlineMs = 30_000): Account {
    return new Account(new AICredits({ baseUrl: url, apiKey: apiKey!, deadlineMs }), this.workspace.id);
  }

  static async open(models: string[] = [], granted = GRANTED, url = baseUrl!): Promise<Account> {
    const account = new Account(new AICredits({ baseUrl: url, apiKey: apiKey! }), `client-${randomUUID()}`);
    const { credits, workspace } = account;
    await credits.putWorkspace(workspace.id, { name: 'Client', plan: 'free', billing_email: 'billing@client.example' });
    const path = `/v1/workspaces/${workspace.id}`;
    const pricing = { models: models.map((model) => ({ model, multiplier: '1' })) };
    await credits.request('PUT', `${path}/pricing`, { body: pricing });
    const body = { credits: granted, kind: 'prepaid', reason: 'test' };
    if (granted !== '0') await credits.request('POST', `${path}/grants`, { body, idempotencyKey: 'grant' });
    return account;
  }

  /** Checks that nothing is held, and that the calls cost the price of what they used, each rounded by itself. */
  async assertPaid(calls: Units[], granted = GRANTED): Promise<void> {
    await this.credits.settled();
    const { available, held } = await this.workspace.getBalance();
    let left = millionths(granted);
    for (const units of calls) left -= millionths(await this.priceOf(units));
    assert.deepEqual({ available: millionths(available), held }, { available: left, held: '0' });
  }

  async priceOf(units: Units): Promise<string> {
    return (await this.workspace.createQuote({ operation: OPERATION, units, consumer: CONSUMER })).credits;
  }
}

export function millionths(credits: string): bigint {
  const [, sign, whole, fraction = ''] = /^(-?)(\d+)(?:\.(\d+))?$/.exec(credits) ?? assert.fail(credits);
  const count = BigInt(whole! + fraction.padEnd(6, '0'));
  return sign ? -count : count;
}
