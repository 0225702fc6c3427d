// The credits spent up to each day of this month and of last month, as a chart and as a table.
import { html, useEffect, useRef, useState } from './preact.js';
import { area, line, ticks } from './d3.js';
import { credits, month as monthName, roughly } from './format.js';

const [HEIGHT, LEFT, RIGHT, BOTTOM, TOP] = [220, 48, 8, 24, 8];
const DAYS = Array.from({ length: 31 }, (_, at) => at + 1);

export function Chart({ month, before, days: [now, then], today }) {
  const place = useRef(null);
  const [width, setWidth] = useState(640);
  useEffect(() => {
    const fit = new ResizeObserver(([seen]) => setWidth(Math.max(seen.contentRect.width, 200)));
    fit.observe(place.current);
    return () => fit.disconnect();
  }, []);
  const names = [monthName(month), monthName(before)];
  const upTo = [sumsOf(now.groups, Number(today.slice(8, 10))), sumsOf(then.groups, 31)];
  const most = Math.max(...upTo.flat(), 1);
  const x = day => LEFT + ((day - 1) / 30) * (width - LEFT - RIGHT);
  const y = sum => TOP + (1 - sum / most) * (HEIGHT - TOP - BOTTOM);
  const along = shape => shape.x((_, at) => x(at + 1));
  const drawn = along(line()).y(y);
  return html`
    <figure ref=${place}>
      <svg class="chart" viewBox=${`0 0 ${width} ${HEIGHT}`} role="img"
        aria-label=${`Credits spent up to each day: ${credits(now.total)} in ${names[0]}, ${credits(then.total)} in ${names[1]}`}>
        ${ticks(0, most, 4).map(sum => html`<g><line class="grid" x1=${LEFT} x2=${width} y1=${y(sum)} y2=${y(sum)} />
          <text x=${LEFT - 8} y=${y(sum) + 4} text-anchor="end">${roughly(sum)}</text></g>`)}
        ${[1, 8, 15, 22, 29].map(day => html`<text x=${x(day)} y=${HEIGHT - 4} text-anchor="middle">${day}</text>`)}
        <path class="then" d=${drawn(upTo[1])} />
        <path class="area" d=${along(area()).y0(y(0)).y1(y)(upTo[0])} /><path class="now" d=${drawn(upTo[0])} />
        ${DAYS.map(day => html`<rect x=${x(day - 0.5)} width=${x(2) - x(1)} y="0" height=${HEIGHT}><title>${
          [`Day ${day}`, ...upTo.map((sums, at) => sums[day - 1] == null ? null : `${names[at]}: ${roughly(sums[day - 1])}`)].filter(Boolean).join('\n')
        }</title></rect>`)}
      </svg>
      <figcaption><span class="now">${names[0]}, <b>${roughly(now.total)}</b></span><span class="then">${names[1]}, <b>${roughly(then.total)}</b></span></figcaption>
    </figure>
    <details><summary>Day by day</summary><div class="scroll" tabindex="0" role="region" aria-label="Usage by day"><table>
      <thead><tr><th>Day</th>${names.map(name => html`<th class="number">${name}</th>`)}</tr></thead>
      <tbody>${DAYS.map(day => html`<tr><td>${day}</td>
        ${[now, then].map(usage => html`<td class="number">${spentOn(usage, day)}</td>`)}</tr>`)}</tbody>
    </table></div></details>`;
}

function spentOn({ month, groups }, day) {
  const key = `${month}-${String(day).padStart(2, '0')}`;
  return credits(groups.find(group => group.key === key)?.credits ?? '0');
}

/** Returns the running sums of a month's days, up to the day `until`. */
function sumsOf(groups, until) {
  const spent = new Map(groups.map(group => [Number(group.key.slice(8)), Number(group.credits)]));
  let sum = 0;
  return DAYS.slice(0, until).map(day => (sum += spent.get(day) ?? 0));
}
