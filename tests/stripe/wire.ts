// Converts the text of a form or query to the typed value that Stripe's library takes in that place.

/** The literal strings of a type. Stripe's open enums also accept any string, which would hide a typing error. */
type Literal<T> = T extends string ? (string extends T ? never : T) : never;

type WrittenString<T> = [Exclude<Literal<T>, ''>] extends [never] ? string : Literal<T>;

/** The text form of a type. Every number that this client sends is an integer: minor units, seconds, counts. */
type Written<T> = unknown extends T
  ? string
  :
      | (T extends number ? `${bigint}` : T extends boolean ? `${T}` : never)
      | ([Extract<T, string>] extends [never] ? never : WrittenString<Extract<T, string>>);

/** Infers the type from the position of the text, and accepts only text in the form of that type. */
export declare function wire<T>(text: NoInfer<Written<T>>): T;
