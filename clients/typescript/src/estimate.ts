import type { Units } from './types.ts';

// Texts of most languages have more bytes per token than this, so a hold is seldom too small.
const BYTES_PER_INPUT_TOKEN = 3;
const BYTES_PER_OUTPUT_TOKEN = 4;
const TOKENS_PER_PART = 1_000;
const NOT_TEXT = new Set([
  ...['image', 'image_url', 'input_image', 'computer_screenshot', 'audio', 'input_audio', 'video'],
  ...['file', 'file-data', 'file-url', 'file-id', 'image-data', 'image-url', 'image-file-id', 'reasoning-file'],
  ...['input_file', 'document', 'container_upload', 'media'],
]);
const encoder = new TextEncoder();

/** Returns the number of bytes of a text in UTF-8. */
export function bytesOf(text: string): number {
  return encoder.encode(text).length;
}

/** Estimates the tokens that went out by the bytes of the texts. */
export function outputTokensOf(bytes: number): number {
  return Math.ceil(bytes / BYTES_PER_OUTPUT_TOKEN);
}

/**
 * Estimates the tokens of a request: a third of the bytes of its texts and of the JSON of its schemas, and 1,000 for each
 * image or other part that is no text. A number is a token, as in the input of an embedding.
 */
export function inputTokensOf(texts: unknown, schemas: unknown[]): number {
  let [bytes, tokens] = [0, 0];
  const read = (value: unknown): void => {
    if (typeof value === 'string') bytes += bytesOf(value);
    else if (typeof value === 'number') tokens += 1;
    else if (Array.isArray(value)) value.forEach(read);
    else if (isNotText(value)) tokens += TOKENS_PER_PART;
    else if (typeof value === 'object' && value !== null) Object.values(value).forEach(read);
  };
  read(texts);
  for (const schema of schemas) bytes += schema === undefined ? 0 : bytesOf(JSON.stringify(schema));
  return Math.ceil(bytes / BYTES_PER_INPUT_TOKEN) + tokens;
}

function isNotText(value: unknown): boolean {
  if (typeof value !== 'object' || value === null) return false;
  if (ArrayBuffer.isView(value)) return true;
  const { type, source } = value as { type?: unknown; source?: { type?: unknown } };
  const isText = source?.type === 'text' || source?.type === 'content';
  return typeof type === 'string' && NOT_TEXT.has(type) && !isText;
}

/** Counts a total in exclusive classes: in each class at most what is left of the total, and in `rest` what remains. */
export function exclusive(total: number | null | undefined, classes: Record<string, number | null | undefined>, rest: string): Units {
  let left = countOf(total);
  const units: Units = {};
  for (const [unit, reported] of Object.entries(classes)) {
    units[unit] = Math.min(countOf(reported), left);
    left -= units[unit];
  }
  units[rest] = left;
  return units;
}

/** Returns a reported count as one that can be charged. */
export function countOf(reported: number | null | undefined): number {
  return Number.isFinite(reported) ? Math.max(0, Math.floor(reported as number)) : 0;
}
