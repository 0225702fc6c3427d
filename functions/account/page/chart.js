// The credits of each day as bars. One slider covers them: arrow keys and touch choose a day, and its text is announced.
import { html, useEffect, useRef, useState } from './preact.js';
import { credits, shortDay, fullDate } from './format.js';
import { t } from './texts.js';

const [HEIGHT, LEFT, BOTTOM, TOP] = [190, 44, 22, 8];

/**
 * Draws `days`: `[{day, credits, before?}]`. `before` is the day to compare with, of another period. `names` are the
 * periods' names, and `until` is the last day that has happened.
 */
export function Chart({ label, days, names, until }) {
  const [place, width] = useWidth();
  const [chosen, choose] = useState(null);
  const top = topOf(days);
  const slot = (width - LEFT) / Math.max(days.length, 1);
  const y = value => TOP + (1 - value / top) * (HEIGHT - TOP - BOTTOM);
  const at = Math.min(chosen ?? lastAt(days, until), days.length - 1);
  return html`<figure class="chart">
    <p class="readout" aria-hidden="true">${chosen === null ? html`<span class="quiet">${t.chart.hint}</span>` : html`<b>${textOf(days[at], names)}</b>`}</p>
    <div ref=${place} class="plot" role="slider" tabindex="0" aria-label=${label} aria-valuemin="1" aria-valuemax=${days.length} aria-valuenow=${at + 1}
      aria-valuetext=${textOf(days[at], names)} onKeyDown=${event => moved(event, at, days.length, choose)}
      onPointerMove=${event => choose(dayAt(event, slot, days.length))} onPointerDown=${event => choose(dayAt(event, slot, days.length))}
      onPointerLeave=${event => event.pointerType === 'mouse' && choose(null)} onBlur=${() => choose(null)} onFocus=${() => choose(at)}>
      <svg viewBox=${`0 0 ${width} ${HEIGHT}`} width=${width} height=${HEIGHT} aria-hidden="true">
        ${ticksOf(top, days.every(day => !(day.credits > 0 || day.before > 0))).map(value => html`<g key=${value}><line class="grid" x1=${LEFT} x2=${width} y1=${y(value)} y2=${y(value)} />
          <text x=${LEFT - 8} y=${y(value) + 4} text-anchor="end">${credits(value)}</text></g>`)}
        ${days.map((day, index) => html`<g key=${day.day} class=${index === at && chosen !== null ? 'chosen' : ''}>
          <rect class="slot" x=${LEFT + slot * index} width=${slot} y="0" height=${HEIGHT - BOTTOM} />
          <${Bars} day=${day} x=${LEFT + slot * index} slot=${slot} y=${y} /></g>`)}
        ${labelled(days.length, slot).map(index => html`<text x=${LEFT + slot * (index ? index + 0.5 : 0.12)} y=${HEIGHT - 6} text-anchor=${index ? 'middle' : 'start'}>${shortDay(days[index].day)}</text>`)}
      </svg>
    </div>
  </figure>`;
}

function Bars({ day, x, slot, y }) {
  const bar = (kind, value, from, part) => value > 0 && html`<rect class=${kind} x=${x + slot * from} width=${Math.max(slot * part, 1)}
    y=${y(value)} height=${Math.max(y(0) - y(value), 1)} rx=${Math.min(2, slot * part / 2)} />`;
  if (day.before === undefined) return bar('now', day.credits, 0.15, 0.7);
  return html`${bar('then', day.before, 0.12, 0.36)}${bar('now', day.credits, 0.5, 0.4)}`;
}

function useWidth() {
  const place = useRef(null);
  const [width, setWidth] = useState(600);
  useEffect(() => {
    const fit = new ResizeObserver(([seen]) => setWidth(Math.max(Math.round(seen.contentRect.width), 200)));
    fit.observe(place.current);
    return () => fit.disconnect();
  }, []);
  return [place, width];
}

function moved(event, at, length, choose) {
  const steps = { ArrowLeft: -1, ArrowDown: -1, ArrowRight: 1, ArrowUp: 1, PageDown: -7, PageUp: 7, Home: -length, End: length };
  const step = steps[event.key];
  if (step === undefined) return;
  event.preventDefault();
  choose(Math.min(Math.max(at + step, 0), length - 1));
}

function dayAt(event, slot, length) {
  const { left } = event.currentTarget.getBoundingClientRect();
  return Math.min(Math.max(Math.floor((event.clientX - left - LEFT) / slot), 0), length - 1);
}

function lastAt(days, until) {
  const found = days.findLastIndex(({ day }) => !until || day <= until);
  return Math.max(found, 0);
}

function textOf(day, names = []) {
  if (!day) return '';
  const now = t.chart.day(fullDate(day.day), credits(day.credits));
  return day.before === undefined ? now : t.chart.against(now, names[1], credits(day.before));
}

function topOf(days) {
  const most = Math.max(...days.flatMap(day => [Number(day.credits), Number(day.before ?? 0)]), 0) || 1;
  const step = stepOf(most);
  return Math.ceil(most / step) * step;
}

/** A round step (1, 2 or 5 times a power of ten) of which three to six make up the whole. */
function stepOf(most) {
  const power = 10 ** Math.floor(Math.log10(most));
  return [0.2, 0.5, 1, 2].map(part => part * power).find(step => most / step <= 5);
}

function ticksOf(top, empty) {
  if (empty) return [0];
  const step = stepOf(top);
  return Array.from({ length: Math.round(top / step) + 1 }, (_, at) => Number((at * step).toPrecision(6)));
}

/** The days that have a label: as many as have room. */
function labelled(length, slot) {
  const every = [1, 2, 7, 14, 30, 60, 90].find(step => step * slot >= 64) ?? 120;
  return Array.from({ length }, (_, at) => at).filter(at => at % every === 0 && (length - at) * slot > 40);
}
