async function debit(workspace: string, key: string, order: object): Promise<Record<string, unknown>> {
  for (let tries = 1; ; tries++) {
    const answer = await fetch(`${process.env.CREDITS_URL}/v1/workspaces/${workspace}/debits`, {
      method: 'POST',
      headers: { Authorization: `Bearer ${process.env.CREDITS_TOKEN}`, 'Idempotency-Key': key, 'Content-Type': 'application/json' },
      body: JSON.stringify(order),
    });
    if (answer.status !== 503 || tries === 5) return await answer.json(); // 402: show its `prompt`, and link to its `top_up_url`.
    // Busy: a moment later, the same key charges nothing twice.
    await new Promise((again) => setTimeout(again, Math.random() * 200 * 2 ** tries));
  }
}

console.log(await debit('demo', JSON.parse(process.argv[2]), JSON.parse(process.argv[3])));
