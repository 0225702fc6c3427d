// The parts that all tabs are made of: sections that load, figures, fields, dialogs.
import { html, useEffect, useId, useRef, useState } from './preact.js';
import { credits, exactly } from './format.js';
import { t } from './texts.js';

/** Credits with at most two decimals. The exact figure is in the title. */
export function Credits({ of, unit }) {
  const shown = credits(of);
  const exact = exactly(of);
  return html`<span class="nowrap" title=${shown === exact ? undefined : exact}>${shown}${unit && ` ${t.credits(of)}`}</span>`;
}

/**
 * A section of a tab. While its data (`of`, from useResponse) loads it is a skeleton of about its height; if that failed it
 * says so, with a button to try again.
 */
export function Section({ id, title, of, lines = 4, tools, wide, children }) {
  const value = of ? of.value : true;
  const shown = [children].flat().map(child => (typeof child === 'function' ? value && child(value) : child));
  return html`<section aria-labelledby=${id} aria-busy=${(!value && !of?.problem) || Boolean(of?.stale)} class=${wide && 'wide'}>
    <div class="head"><h2 id=${id} tabindex="-1">${title}</h2>${tools}</div>
    ${!value && !of.problem && html`<${Skeleton} lines=${lines} />`}${shown}
    ${of?.problem && html`<${Failed} of=${of} stale=${Boolean(value)} />`}
  </section>`;
}

export function Failed({ of, stale }) {
  return html`<div class="failed" role="status"><p>${stale ? t.failed.stale : t.failed.section} ${t.problem(of.problem)}</p>
    <button class="plain" onClick=${of.reload}>${t.failed.retry}</button></div>`;
}

export function Skeleton({ lines }) {
  return html`<div class="skeleton"><span class="unseen">${t.loading}</span>
    ${Array.from({ length: lines }, (_, at) => html`<i key=${at}></i>`)}<p class="slow">${t.slow}</p></div>`;
}

/** A table that scrolls sideways within its section on a narrow screen. */
export function Table({ label, head, children }) {
  return html`<div class="scroll" tabindex="0" role="region" aria-label=${label}><table>
    <thead><tr>${head.map(name => html`<th class=${name[0] === '#' ? 'number' : ''} scope="col">${name.replace('#', '')}</th>`)}</tr></thead>
    <tbody>${children}</tbody></table></div>`;
}

/** A bar of parts: `[{part, kind}]`, each from 0 to 1. */
export function Bar({ parts }) {
  return html`<div class="bar" aria-hidden="true">${parts.filter(({ part }) => part > 0).map(({ part, kind }) => html`
    <span class=${kind} style=${{ flexGrow: part }}></span>`)}</div>`;
}

/** A labelled input with a hint, and with the error of the field, which is announced and named by the input. */
export function Field({ label, hint, error, children }) {
  const id = useId();
  const described = [hint && `${id}-hint`, error && `${id}-error`].filter(Boolean).join(' ');
  return html`<div class="field"><label for=${id}>${label}</label>
    ${children({ id, 'aria-describedby': described || undefined, 'aria-invalid': error ? 'true' : undefined })}
    ${hint && html`<small id="${id}-hint">${hint}</small>`}
    ${error && html`<p class="error" id="${id}-error">${error}</p>`}</div>`;
}

/** What happened to a form: saved, failed, or nothing yet. Announced. */
export function Said({ of }) {
  return html`<p role="status" class=${of?.failed ? 'error' : 'good'}>${of?.text}</p>`;
}

/** Focuses the first field that has an error, after a form was refused. */
export function useFocusOnError(errors) {
  const form = useRef(null);
  useEffect(() => {
    if (Object.keys(errors ?? {}).length > 0) form.current?.querySelector('[aria-invalid=true]')?.focus();
  }, [errors]);
  return form;
}

/** A modal dialog. In a frame as high as its page it opens at what was pressed, since the frame's middle may be far away. */
export function Dialog({ label, close, children }) {
  const dialog = useRef(null);
  useEffect(() => {
    const opener = document.activeElement;
    const top = opener?.getBoundingClientRect?.().top ?? 0;
    dialog.current.showModal();
    if (window.parent !== window) {
      const highest = innerHeight - dialog.current.offsetHeight - 16;
      dialog.current.style.marginTop = `${Math.max(16, Math.min(top - 120, highest))}px`;
    }
    return () => opener?.isConnected && opener.focus();
  }, []);
  return html`<dialog ref=${dialog} aria-label=${label} onClose=${close}>
    <h2>${label}</h2>${children}</dialog>`;
}

/** Saves a file to the person's downloads. */
export function download(name, parts) {
  const file = new Blob(parts, { type: 'text/csv;charset=utf-8' });
  const link = Object.assign(document.createElement('a'), { href: URL.createObjectURL(file), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

/** Writes rows as CSV. A text that a spreadsheet would run as a formula begins with an apostrophe. */
export function csvOf(rows) {
  const cell = value => {
    const text = String(value ?? '').replace(/^(?=[=+@\t\r]|-\D)/, "'");
    return /[",\n\r]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  };
  return rows.map(row => `${row.map(cell).join(',')}\r\n`);
}

/** Runs one action at a time, and keeps the problem of the last. */
export function useAction() {
  const [state, setState] = useState({ busy: false, problem: null });
  const run = async action => {
    setState({ busy: true, problem: null });
    try {
      const value = await action();
      setState({ busy: false, problem: null });
      return value;
    } catch (problem) {
      setState({ busy: false, problem });
      return undefined;
    }
  };
  return { ...state, run };
}
