/** A page of a listing. */
export interface Page {
  next_cursor: string | null;
}

/** A listing that is fetched page by page while it is iterated. */
export class Pages<P extends Page, Item> implements AsyncIterable<Item> {
  readonly #fetchPage: (cursor: string | undefined) => Promise<P>;
  readonly #itemsOf: (page: P) => readonly Item[];

  /** @internal */
  constructor(fetchPage: (cursor: string | undefined) => Promise<P>, itemsOf: (page: P) => readonly Item[]) {
    this.#fetchPage = fetchPage;
    this.#itemsOf = itemsOf;
  }

  /** Fetches one page: the first, or the one that a page's `next_cursor` names. */
  page(cursor?: string): Promise<P> {
    return this.#fetchPage(cursor);
  }

  /** Iterates over the items of all pages. */
  async *[Symbol.asyncIterator](): AsyncGenerator<Item, void, undefined> {
    let cursor: string | undefined;
    do {
      const page = await this.#fetchPage(cursor);
      yield* this.#itemsOf(page);
      cursor = page.next_cursor ?? undefined;
    } while (cursor !== undefined);
  }
}
