class InsufficientCredits extends Error {
  problem: { prompt: string; top_up_url: string };

  constructor(problem: { prompt: string; top_up_url: string }) {
    super(problem.prompt);
    this.problem = problem;
  }
}

// Returns the debit, or throws. Call the model only after it has returned.
async function debit(workspace: string, key: string, order: object): Promise<{ credits: string }> {
  for (let attempt = 1; ; attempt++) {
    const { status, body } = await post(`/v1/workspaces/${workspace}/debits`, key, order);
    if (status === 200 || status === 201) return JSON.parse(body);
    if (status === 402) throw new InsufficientCredits(JSON.parse(body));
    if (attempt === 5 || ![0, 429, 500, 502, 503, 504].includes(status)) throw new Error(`debit ${key}: ${status} ${body}`);
    // The same key charges nothing twice, even if an attempt whose answer was lost has drawn the credits.
    await new Promise((again) => setTimeout(again, Math.random() * 200 * 2 ** attempt));
  }
}

// The status is 0 if no whole answer came.
async function post(path: string, key: string, order: object): Promise<{ status: number; body: string }> {
  try {
    const answer = await fetch(`${process.env.CREDITS_URL}${path}`, {
      method: 'POST',
      headers: { Authorization: `Bearer ${process.env.CREDITS_TOKEN}`, 'Idempotency-Key': key, 'Content-Type': 'application/json' },
      body: JSON.stringify(order),
      signal: AbortSignal.timeout(30_000),
    });
    return { status: answer.status, body: await answer.text() };
  } catch (error) {
    return { status: 0, body: String(error) };
  }
}

const [key, order] = process.argv.slice(2).map((argument) => JSON.parse(argument));
try {
  console.log(`it cost ${(await debit('demo', key, order)).credits}`);
} catch (error) {
  if (!(error instanceof InsufficientCredits)) throw error;
  console.log(`${error.problem.prompt} ${error.problem.top_up_url}`);
}
