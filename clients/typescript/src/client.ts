import { AICreditsError } from './errors.ts';
import { Folds } from './folds.ts';
import { type Page, Pages } from './pages.ts';
import { type CallOptions, type ClientOptions, Sender, path } from './send.ts';
import type { Catalogue, Profile, WorkspaceDetails } from './types.ts';
import { type ReadOptions, Workspace } from './workspace.ts';

/** The content of a request. */
export interface RequestContent {
  query?: Record<string, string | number | boolean | null | undefined>;
  body?: unknown;
}

/** A client of AI Credits. One client serves all workspaces. */
export class AICredits {
  readonly #sender: Sender;
  readonly #folds = new Folds();
  readonly #settlements = new Set<Promise<unknown>>();

  constructor(options: ClientOptions) {
    this.#sender = new Sender(options);
  }

  /** Returns the handle of a workspace. Sends nothing. */
  workspace(id: string): Workspace {
    return new Workspace(id, this.#sender, this.#folds, this.#settlements);
  }

  /** Creates a workspace, or changes its profile. */
  putWorkspace(id: string, profile: Profile, options?: CallOptions): Promise<WorkspaceDetails> {
    return this.request('PUT', path`/v1/workspaces/${id}`, { body: profile, ...options });
  }

  getWorkspace(id: string, options?: ReadOptions): Promise<WorkspaceDetails> {
    return this.request('GET', path`/v1/workspaces/${id}`, options);
  }

  /** Returns the prices in effect: those of the rate card, or a workspace's own. */
  getCatalog(query: { workspace?: string } = {}, options?: ReadOptions): Promise<Catalogue> {
    return this.request('GET', '/v1/catalog', { query, ...options });
  }

  /** Makes any call of the API. */
  request<R = unknown>(method: string, path: string, options: RequestContent & CallOptions = {}): Promise<R> {
    const { query, body, ...rest } = options;
    return this.#sender.send({ method: method.toUpperCase(), path, query, body }, rest) as Promise<R>;
  }

  /** Iterates over any listing of the API, whose pages have their items in the field `items`. */
  list<Item>(path: string, items: string, options: Pick<RequestContent, 'query'> & ReadOptions = {}): Pages<Page, Item> {
    const { query, ...rest } = options;
    const fetchPage = (cursor = query?.['cursor']) => this.request<Page>('GET', path, { query: { ...query, cursor }, ...rest });
    return new Pages(fetchPage, (page) => {
      const found = Object.entries(page).find(([field]) => field === items)?.[1];
      if (!Array.isArray(found)) throw new AICreditsError(`The pages of ${path} have no list ${JSON.stringify(items)}`);
      return found as Item[];
    });
  }

  /**
   * Waits for the settlements in progress, and rejects if one of them fails. The settlement of an aborted stream starts with
   * the abort, so a process should wait before it exits.
   */
  async settled(): Promise<void> {
    await Promise.all(this.#settlements);
  }
}
