"""Access to the running stack, for tests."""

import os
import uuid
from decimal import Decimal
from typing import Any

from ai_credits import AICredits, Workspace

ADDRESS = os.environ["AI_CREDITS_LOCAL"]
TOKEN = os.environ["AI_CREDITS_TOKEN"]
CONSUMER: Any = {"kind": "action", "feature": "assistant", "user_id": "ada"}

operator = AICredits(ADDRESS, TOKEN)


def workspace_with(credits: str, pricing: dict[str, Any] | None = None) -> Workspace:
    """Creates a workspace with some credits, and with prices of its own if given."""
    name = f"python-{uuid.uuid4()}"
    operator.put_workspace(name, {"name": "Python", "plan": "free", "billing_email": "billing@python.example"})
    if pricing is not None:
        operator.request("PUT", f"/v1/workspaces/{name}/pricing", body=pricing)
    if credits != "0":
        body = {"credits": credits, "kind": "prepaid", "reason": "test"}
        operator.request("POST", f"/v1/workspaces/{name}/grants", body=body)
    return operator.workspace(name)


def available(workspace: Workspace) -> Decimal:
    return Decimal(workspace.get_balance()["available"])
