// The plan of an answer: the JSON in the last user message that says what a request gets. models.js lists the fields.

const DEFAULTS = {
  input: 10, cached: 0, cache_write: 0, audio_input: 0, output: 20, reasoning: 0, audio_output: 0,
  functions: 0, server_tools: {}, usage: true,
};
const OPTIONAL = ['id', 'text', 'finish', 'fail', 'break_after', 'stall_after', 'error_after'];

/** Reads the plan in a text. A text that is no JSON object is a plan with all defaults. */
export function readPlan(text) {
  const given = parseObject(text);
  const known = [...Object.keys(DEFAULTS), ...OPTIONAL];
  const unknown = Object.keys(given).filter((field) => !known.includes(field));
  if (unknown.length) throw new Error(`unknown fields in the plan: ${unknown.join(', ')}`);
  return { ...DEFAULTS, ...given };
}

/** Returns the answer that a plan gives to a request. The request's maximum of tokens cuts it, reasoning first. */
export function answerOf(plan, { limit = Infinity, afterFunction }) {
  const reasoning = Math.min(plan.reasoning, limit);
  const output = Math.min(plan.output, limit - reasoning);
  return {
    ...plan,
    reasoning,
    output,
    truncated: plan.reasoning + plan.output > limit,
    functions: afterFunction ? 0 : plan.functions,
    textDeltas: plan.text?.match(/\S+\s*/g) ?? tokens('word', output),
    reasoningDeltas: tokens('think', reasoning),
  };
}

/** Finds the text of the last user message, and whether the result of a function follows it. */
export function lastUserText(messages, isResult) {
  const lastPart = (content) => content?.findLast?.(({ text }) => typeof text === 'string')?.text;
  const textOf = ({ content }) => (typeof content === 'string' ? content : lastPart(content));
  const user = messages.findLast((message) => message.role === 'user' && textOf(message) !== undefined);
  return { text: user && textOf(user), afterFunction: messages.length > 0 && isResult(messages.at(-1)) };
}

/** Returns the arguments of a function call in two deltas. They cost no tokens. */
export function argumentDeltas(at) {
  return ['{"call":', `${at + 1}}`];
}

function tokens(word, count) {
  return Array.from({ length: count }, (_, at) => `${word}${at + 1} `);
}

function parseObject(text) {
  try {
    const value = JSON.parse(text);
    return value !== null && typeof value === 'object' && !Array.isArray(value) ? value : {};
  } catch {
    return {};
  }
}
