// <ai-credits-prompt>, which any page can embed.
import assert from 'node:assert/strict';
import { createServer } from 'node:http';
import { test } from 'node:test';
import { base, browser, newWorkspace, spend } from './support.js';

test('m11_another_page_can_embed_the_prompt', async context => {
  await newWorkspace('refused');
  const embedding = `<!doctype html><link rel="icon" href="data:,"><ai-credits-prompt></ai-credits-prompt>
    <script type="module" src="${base}/settings/ai-credits/prompt.js"></script>`;
  const hubPage = createServer((_, response) => response.setHeader('content-type', 'text/html').end(embedding));
  await new Promise(listening => hubPage.listen(0, '127.0.0.1', listening));
  context.after(() => hubPage.close());
  const page = await browser.newPage();
  await page.goto(`http://127.0.0.1:${hubPage.address().port}/`);
  const problem = (await spend('refused', '3')).body;
  await page.waitForFunction(() => Boolean(customElements.get('ai-credits-prompt')), null, { timeout: 5000 });
  await page.evaluate(problem => { document.querySelector('ai-credits-prompt').problem = problem; }, problem);
  await page.getByRole('alert').getByText(problem.prompt).waitFor();
  assert.equal(await page.getByRole('link', { name: 'Add credits' }).getAttribute('href'), `${base}/settings/ai-credits`);
  await page.evaluate(() => { document.querySelector('ai-credits-prompt').problem = { prompt: '<b>x</b>', top_up_url: 'javascript:alert(1)' }; });
  await page.getByText('<b>x</b>').waitFor();
  assert.equal(await page.getByRole('link', { name: 'Add credits' }).count(), 0);
  await page.close();
});
