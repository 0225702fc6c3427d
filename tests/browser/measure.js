// Measures the settings page on a slow phone: a processor that is four times slower, and a slow 4G network.
//
//     .ci/on-demo node tests/browser/measure.js
import { base, launch, tokenFor } from './support.js';

const RUNS = 5;
/** Chrome's profile of slow 4G: 1.6 Mbit/s down, 750 kbit/s up, 150 ms. */
const NETWORK = { offline: false, downloadThroughput: (1.6e6 / 8) * 0.9, uploadThroughput: (750e3 / 8) * 0.9, latency: 150 * 3.75 };

async function visit(browser) {
  const context = await browser.newContext({ viewport: { width: 390, height: 844 }, isMobile: true, hasTouch: true });
  const page = await context.newPage();
  const cdp = await context.newCDPSession(page);
  await cdp.send('Network.enable');
  await cdp.send('Network.emulateNetworkConditions', NETWORK);
  await cdp.send('Emulation.setCPUThrottlingRate', { rate: 4 });
  let [files, calls, requests] = [0, 0, 0];
  const urls = {};
  cdp.on('Network.requestWillBeSent', ({ requestId, request }) => { urls[requestId] = request.url; });
  cdp.on('Network.loadingFinished', ({ requestId, encodedDataLength }) => {
    requests += 1;
    if (urls[requestId]?.includes('/v1/')) calls += encodedDataLength;
    else files += encodedDataLength;
  });
  await page.addInitScript(() => {
    globalThis.painted = 0;
    new PerformanceObserver(list => { for (const entry of list.getEntries()) globalThis.painted = entry.startTime; }).observe({ type: 'largest-contentful-paint', buffered: true });
  });
  const began = Date.now();
  await page.goto(`${base}/settings/ai-credits#token=${await tokenFor('demo')}`);
  await page.locator('.figure strong').waitFor();
  const balance = Date.now() - began;
  await page.waitForTimeout(6000);
  const painted = await page.evaluate(() => globalThis.painted);
  await context.close();
  return { painted, balance, files, calls, requests };
}

const browser = await launch();
const visits = [];
for (let run = 0; run < RUNS; run += 1) visits.push(await visit(browser));
await browser.close();
const median = name => Math.round(visits.map(one => one[name]).sort((a, b) => a - b)[Math.floor(RUNS / 2)]);
process.stdout.write(`${JSON.stringify(Object.fromEntries(Object.keys(visits[0]).map(name => [name, median(name)])))}\n`);
