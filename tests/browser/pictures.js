// Takes the pictures of docs/pictures on a running `cargo local demo` that was started for this, since it moves its clock:
//
//     AI_CREDITS_PICTURES=docs/pictures PAGE_ORIGINS=http://127.0.0.1:9200 .ci/on-demo node tests/browser/pictures.js
import { createServer } from 'node:http';
import { base, blockRun, grant, hub, id, launch, local, newWorkspace, spend, subscribe, tokenFor } from './support.js';

const folder = process.env.AI_CREDITS_PICTURES;
const APP = (process.env.PAGE_ORIGINS ?? 'http://127.0.0.1:9200').split(' ')[0];
const DAYS = 20;
const WORKFLOWS = [['lead-enrichment', 'record.enrich', 'standard', 22], ['inbox-triage', 'text.extract', 'small', 6], ['weekly-report', 'document.generate', 'large', 30]];
const PEOPLE = [['assistant', 'ada', 'text.generate'], ['assistant', 'ben', 'text.summarize'], ['draft', 'chloe', 'text.generate'], ['draft', 'dev', 'reasoning.chain']];

/** Plays a working day of the demo workspace: its workflows, and half of its people. */
async function playDay(day) {
  const weekend = day % 7 > 4;
  for (const [at, [workflow_id, operation, model, size]] of WORKFLOWS.entries()) {
    if ((at === 2 && day % 7) || (weekend && at === 0)) continue;
    const run = (await hub('POST', 'demo/runs', { workflow_id, trigger: 'scheduled' })).body;
    await spend('demo', String(size + ((day * 7 + at * 3) % 9) + 0.37), { operation, model, consumer: { kind: 'workflow_step', workflow_id, run_id: run.run_id, step_id: 'one' } });
  }
  for (const [at, [feature, user_id, operation]] of PEOPLE.entries()) {
    if (!weekend && (day + at) % 2) await spend('demo', String(4 + ((day + at * 5) % 7) + 0.412), { operation, model: at % 2 ? 'standard' : 'large', consumer: { kind: 'action', feature, user_id } });
  }
  await local('/_local/clock', { advance_seconds: 86_400 });
}

/** The workspaces in their states. Only the last step moves the clock to the next month, so that one is past due. */
async function prepare() {
  for (let day = 0; day < DAYS; day += 1) await playDay(day);
  await newWorkspace('new', { name: 'New Workspace' });
  await newWorkspace('out', { name: 'Acme Studio' });
  await grant('out', '500');
  await spend('out', '499.95');
  await blockRun('out', 'nightly-report');
  await local('/_local/drain');
}

async function preparePastDue() {
  await newWorkspace('past-due', { name: 'Acme Studio' });
  await subscribe('past-due', 'tier_10k');
  await local('/_local/payments', { workspace: id('past-due'), outcome: 'declined' });
  await local('/_local/clock', { advance_seconds: 32 * 86_400 });
  await local('/_local/drain');
}

const browser = await launch();

async function take(name, { workspace = 'demo', path = '/overview', act, ...options } = {}) {
  const context = await browser.newContext({ viewport: { width: 1280, height: 800 }, ...options });
  const page = await context.newPage();
  await page.goto(`${base}/settings/ai-credits#${path}?token=${await tokenFor(workspace)}`);
  await page.locator('section').first().waitFor();
  await page.waitForTimeout(1500);
  await act?.(page);
  await page.screenshot({ path: `${folder}/${name}.png` });
  await context.close();
}

async function takeEmbedded() {
  const html = `<!doctype html><html lang="en"><meta charset="utf-8"><title>Acme</title><link rel="icon" href="data:,">
    <style>body { margin: 0; font: 15px system-ui, sans-serif; display: grid; grid-template-columns: 13rem 1fr; background: #fff } nav { background: #0b3b2e; color: #cfe9df; padding: 1.5rem; min-height: 100vh; line-height: 2.2 } b { color: #fff } div { padding: 1.25rem }</style>
    <nav><b>Acme</b><br>Projects<br>Members<br><b>AI Credits</b><br>Security</nav>
    <div><ai-credits-settings workspace="demo" accent="#0a7d5a"></ai-credits-settings></div>
    <script type="module" src="${base}/settings/ai-credits/settings.js"></script>
    <script type="module">document.querySelector('ai-credits-settings').token = '${await tokenFor('demo')}';</script>`;
  const server = createServer((_, response) => response.setHeader('content-type', 'text/html').end(html));
  await new Promise(listening => server.listen(new URL(APP).port, '127.0.0.1', listening));
  const page = await browser.newPage({ viewport: { width: 1280, height: 800 } });
  await page.goto(APP);
  await page.waitForTimeout(3000);
  await page.screenshot({ path: `${folder}/embedded.png` });
  server.closeAllConnections();
  server.close();
}

const phone = { viewport: { width: 390, height: 844 } };
await prepare();
for (const tab of ['overview', 'usage', 'billing', 'alerts']) {
  await take(tab, { path: `/${tab}` });
  await take(`${tab}-dark`, { path: `/${tab}`, colorScheme: 'dark' });
  await take(`${tab}-phone`, { path: `/${tab}`, ...phone });
}
await take('usage-within', { path: '/usage', act: async page => {
  await page.getByRole('button', { name: 'lead-enrichment' }).click();
  await page.waitForTimeout(1000);
} });
await take('upgrade', { path: '/billing', act: async page => {
  await page.getByRole('button', { name: 'Change: 50,000' }).click();
  await page.getByRole('dialog').getByText(/^Pay/).first().waitFor();
} });
await take('new-workspace', { workspace: 'new' });
await take('out-of-credits', { workspace: 'out' });
await take('out-of-credits-phone', { workspace: 'out', ...phone, colorScheme: 'dark' });
await takeEmbedded();
await preparePastDue();
await take('past-due', { workspace: 'past-due' });
await browser.close();
