// The text of a form or query as the typed value that Stripe's library takes in that place.

/** The literal strings of a type. Stripe's open enums also accept any string: a typing error must not hide behind that. */
type Literal<T> = T extends string ? (string extends T ? never : T) : never;

type WrittenString<T> = [Exclude<Literal<T>, ''>] extends [never] ? string : Literal<T>;

/** How a type is written. Every number that Stripe takes from this client is an integer: minor units, seconds, counts. */
type Written<T> = unknown extends T
  ? string
  :
      | (T extends number ? `${bigint}` : T extends boolean ? `${T}` : never)
      | ([Extract<T, string>] extends [never] ? never : WrittenString<Extract<T, string>>);

/** Infers the type from the place where the text stands, and accepts only texts that are written as that type. */
export declare function wire<T>(text: NoInfer<Written<T>>): T;
