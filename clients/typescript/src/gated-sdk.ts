import { type CallOrder, type Call, attach } from './call.ts';
import { NotGated } from './errors.ts';
import type { Ending, Meter } from './meter.ts';
import { metered } from './metered-body.ts';
import type { Units } from './types.ts';
import type { Workspace } from './workspace.ts';

/** The workspace that pays the calls of a model, and their prices. */
export interface GateOptions<Request> extends Omit<CallOrder, 'units' | 'model'> {
  workspace: Workspace;
  /** The model of the rate card, or a function from the provider's name to it; by default the provider's name. */
  model?: string | ((providerModel: string) => string | undefined);
  /** The output tokens to hold for a request that has no limit; 4,096 by default. */
  defaultMaxTokens?: number;
  /** Returns the most that a request may use, in place of the estimate by its size. */
  estimate?: (request: Request) => Units;
}

/** A request to a model, with its upper bound and its meter. */
export interface GatedRequest {
  /** The provider's name of the model. */
  model: string;
  /** The most that it may use. */
  units: Units;
  meter: Meter;
  /** The body to send. */
  body: object;
}

/** A provider whose client is gated. */
export interface Provider {
  /** The name of its package. */
  name: string;
  /** Returns what a POST uses, or `undefined` if it is free. Throws if it cannot be gated. */
  gate: (path: string, body: object) => GatedRequest | undefined;
  /** Methods of the client that are replaced. */
  replaced?: object;
}

/** Places the hold of a call of a model. */
export function hold(
  { workspace, operation, consumer, metadata, ttl_seconds, overrun, model }: GateOptions<never>,
  request: Pick<GatedRequest, 'model' | 'units'>,
  signal: AbortSignal | undefined,
): Promise<Call> {
  const priced = typeof model === 'function' ? model(request.model) : (model ?? request.model);
  const order = { operation, model: priced, units: request.units, consumer, metadata, ttl_seconds, overrun };
  return workspace.begin(order, { signal });
}

interface SdkOptions {
  method: string;
  path: string;
  body?: unknown;
  stream?: boolean;
  signal?: AbortSignal | null;
}

interface SdkResponse {
  response: Response;
  controller: AbortController;
}

/** The method of the clients of OpenAI and Anthropic through which each request goes, with its retries. */
type MakeRequest = (options: SdkOptions | PromiseLike<SdkOptions>, ...rest: unknown[]) => Promise<SdkResponse>;

interface SdkClient {
  withOptions(options: object): this;
}

/** Returns a copy of a provider's client, whose requests are gated. */
export function gated<Client extends SdkClient>(client: Client, provider: Provider, options: GateOptions<never>): Client {
  const copy = Object.assign(client.withOptions({}), provider.replaced);
  const internals = copy as unknown as { makeRequest?: MakeRequest };
  const makeRequest = internals.makeRequest?.bind(copy);
  if (!makeRequest) throw new NotGated(`This version of ${provider.name} cannot be gated: its client has no method makeRequest`);
  const withOptions = copy.withOptions.bind(copy);
  copy.withOptions = (changed) => gated(withOptions(changed), provider, options);
  const underWay = new WeakSet<object>();
  internals.makeRequest = async (given, ...rest) => {
    const sdkOptions = await given;
    const request = underWay.has(sdkOptions) ? undefined : gateOf(provider, sdkOptions);
    // A retry of the SDK stays within the hold of its first attempt.
    if (!request) return makeRequest(sdkOptions, ...rest);
    const call = await holdUnlessAborted(options, request, sdkOptions.signal ?? undefined);
    if (!call) return makeRequest(sdkOptions, ...rest);
    const sent = { ...sdkOptions, body: request.body };
    underWay.add(sent);
    return send(call, request.meter, sent, () => makeRequest(sent, ...rest)).finally(() => underWay.delete(sent));
  };
  return copy;
}

function gateOf({ name, gate }: Provider, { method, path, body }: SdkOptions): GatedRequest | undefined {
  if (method.toLowerCase() !== 'post') return undefined;
  const { pathname } = new URL(path, 'http://provider');
  const request = gate(pathname, typeof body === 'object' && body !== null ? body : {});
  if (request && typeof body !== 'object') throw new NotGated(`${name}: the body of POST ${path} is no object`);
  return request;
}

/** Places the hold. Returns nothing if the caller aborts meanwhile: the SDK then throws its own error. */
async function holdUnlessAborted(options: GateOptions<never>, request: GatedRequest, signal: AbortSignal | undefined) {
  try {
    return await hold(options, request, signal);
  } catch (error) {
    if (signal?.aborted) return undefined;
    throw error;
  }
}

async function send(call: Call, meter: Meter, { stream }: SdkOptions, makeRequest: () => Promise<SdkResponse>) {
  const settle = (ending: Ending) => meter.settle(call, ending);
  try {
    const result = await makeRequest();
    // An abort may come while nobody reads the body.
    result.controller.signal.addEventListener('abort', () => settle('stopped').catch(() => {}), { once: true });
    result.response = await metered(result.response, stream ? 'events' : 'json', meter, settle);
    return result;
  } catch (error) {
    await settle('failed').catch((settlement: unknown) => attach(error, settlement));
    throw error;
  }
}
