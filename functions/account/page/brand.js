// What the embedding app sets of the page's look: theme and accent colour. And its height, which the app's frame follows.

/** Sets the theme and the accent colour. The accent is darkened or lightened until text in it has enough contrast. */
export function setBrand({ theme, accent }) {
  const root = document.documentElement;
  if (['light', 'dark'].includes(theme)) root.style.colorScheme = theme;
  const colour = /^#?([0-9a-f]{6})$/i.exec(accent ?? '')?.[1];
  if (!colour) return;
  const rgb = [0, 2, 4].map(at => parseInt(colour.slice(at, at + 2), 16));
  const [light, dark] = [readable(rgb, [255, 255, 255], 0), readable(rgb, [25, 28, 33], 255)];
  root.style.setProperty('--accent', `light-dark(${css(light)}, ${css(dark)})`);
}

/** Mixes a colour with black (0) or white (255) until its contrast to the background is 4.6 to 1. */
function readable(rgb, background, towards) {
  for (let part = 0; part < 1; part += 0.05) {
    const mixed = rgb.map(value => Math.round(value + (towards - value) * part));
    if (contrast(mixed, background) >= 4.6) return mixed;
  }
  return [towards, towards, towards];
}

function contrast(one, other) {
  const [high, low] = [luminance(one), luminance(other)].sort((a, b) => b - a);
  return (high + 0.05) / (low + 0.05);
}

function luminance(rgb) {
  const [red, green, blue] = rgb.map(value => (value / 255 <= 0.04045 ? value / 255 / 12.92 : ((value / 255 + 0.055) / 1.055) ** 2.4));
  return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
}

const css = rgb => `rgb(${rgb.join(' ')})`;

/** Sends the page's height to the embedding page whenever it changes, if that page's origin is an allowed one. */
export function followHeight(main, session) {
  if (!session.framed) return;
  document.documentElement.classList.add('framed');
  new ResizeObserver(() => {
    if (session.parent) window.parent.postMessage({ type: 'ai-credits:height', height: Math.ceil(main.getBoundingClientRect().height) }, session.parent);
  }).observe(main);
}
