"""Makes one call with the client of openapi-python-client, a module `ai_credits_client` that `run` has generated."""

import os

from ai_credits_client import AuthenticatedClient
from ai_credits_client.api.balance import list_ledger_entries
from ai_credits_client.api.spending import create_debit
from ai_credits_client.models import ActionConsumer, Debit, DebitByUnits, DebitEntry, Ledger, UnitsAsked

credits = AuthenticatedClient(os.environ["AI_CREDITS_LOCAL"], os.environ["AI_CREDITS_TOKEN"])
order = DebitByUnits(
    operation="text.generate",
    units=UnitsAsked(input_tokens=1_200, output_tokens=800),
    consumer=ActionConsumer(kind="action", feature="assistant", user_id="ada"),
)
debit = create_debit.sync("demo", client=credits, body=order, idempotency_key="openapi-python-client")
assert isinstance(debit, Debit), debit
ledger = list_ledger_entries.sync("demo", client=credits, limit=1)
assert isinstance(ledger, Ledger), ledger
assert isinstance(ledger.entries[0], DebitEntry), ledger.entries[0]
print(f"openapi-python-client: {debit.debit_id} cost {debit.credits_}")
