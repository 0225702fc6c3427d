async function debit(workspace: string, key: string, order: object): Promise<Record<string, unknown>> {
  const answer = await fetch(`${process.env.CREDITS_URL}/v1/workspaces/${workspace}/debits`, {
    method: 'POST',
    headers: { Authorization: `Bearer ${process.env.CREDITS_TOKEN}`, 'Idempotency-Key': key, 'Content-Type': 'application/json' },
    body: JSON.stringify(order),
  });
  if (answer.status === 503) return debit(workspace, key, order); // Busy: the same key charges nothing twice.
  return await answer.json(); // 402: show its `prompt`, and link to its `top_up_url`.
}

console.log(await debit('demo', JSON.parse(process.argv[2]), JSON.parse(process.argv[3])));
