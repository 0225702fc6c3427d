"""Kills functions in the middle of every step of a workspace's life, and checks that the result is the same.

First it plays a life without a kill, and counts its requests by function. Then it plays a life for each number of a
request: every function that makes so many requests dies at it, in one life before the request is executed and in
another after. Callers, the provider and the bus retry, as they do in production.
"""

import http.client
import json
import os
import time
import urllib.parse

import emulator
from caller import PROVIDER, check, pay
from emulator import until

# The number of requests of each function to try. KILLS=all tries every one.
MOST = os.environ.get("KILLS", "5")


class Life:
    """The life of one workspace: its calls, payments and renewals."""

    def __init__(self, api, resources, workspace):
        self.api, self.resources, self.workspace = api, resources, workspace
        self.path = f"/v1/workspaces/{workspace}"

    def insist(self, *call, **options):
        """Retries a call under its key until a response below 500 arrives, as a client does."""
        for _ in range(8):
            status, body = self.api(*call, **options)
            if status < 500:
                return status, body
        raise AssertionError((call, status, body))

    def live(self, carried_out):
        mail = f"billing@{self.workspace}.example"
        profile = {"name": self.workspace, "plan": "team", "billing_email": mail}
        assert self.insist("PUT", self.path, profile)[0] in (200, 201)
        alert = {"low_balance": {"enabled": True, "threshold": "900", "recipients": [f"ops@{self.workspace}.example"]}}
        assert self.insist("PUT", self.path + "/alerts", alert)[0] in (200, 201)
        top_up = self.insist("POST", self.path + "/top-ups", {"pack": "pack_1k"}, key="pack")[1]
        tell = pay(self.api, top_up["checkout_id"])
        until("the webhook takes the payment", lambda: tell()[0] == 200, 20)
        self.spend("one", "150")
        self.spend("two", "2.5")
        self.fail_a_run()
        grant = {"credits": "40", "kind": "prepaid", "reason": "welcome"}
        grant = self.insist("POST", self.path + "/grants", grant, key="grant")[1]
        void = f"{self.path}/grants/{grant['grant_id']}/void"
        self.insist("POST", void, {"reason": "a mistake"}, key="void")
        assert self.insist("PUT", self.path + "/subscription", {"tier": "tier_2k"})[0] in (200, 201)
        self.renew()
        self.settle(carried_out)

    def spend(self, key, credits):
        consumer = {"kind": "action", "feature": "assistant", "user_id": "ada"}
        debit = {"operation": "text.generate", "credits": credits, "consumer": consumer}
        assert self.insist("POST", self.path + "/debits", debit, key=key)[0] in (200, 201)

    def fail_a_run(self):
        run = {"workflow_id": "nightly", "trigger": "scheduled"}
        run = self.insist("POST", self.path + "/runs", run, key="run")[1]
        step = {"kind": "workflow_step", "workflow_id": "nightly", "run_id": run["run_id"], "step_id": "write"}
        step = {"operation": "text.generate", "credits": "5000", "consumer": step}
        assert self.insist("POST", self.path + "/debits", step, key="step")[0] == 402

    def renew(self):
        """Ages the subscription, and invokes the sweep until it is renewed. Makes it due again after each sweep, so
        that the test need not wait for the next attempt."""
        emulator.age_subscription(self.resources["Table"], self.workspace)

        def renewed():
            self.invoke("RenewalFunction", {"schedule": "sweep"})
            emulator.make_due(self.resources["Table"], self.workspace)
            return check(self.insist("GET", self.path + "/subscription"), 200)["period"] == 2

        until("the renewal", renewed, 30)

    def invoke(self, function, event):
        return emulator.client("lambda").invoke(FunctionName=self.resources[function] + ":live", Payload=json.dumps(event))

    def settle(self, carried_out):
        """Waits until the stream is processed, delivers each event again, and confirms each mail that SES accepted."""
        before = None
        while before != (before := self.counted()):
            until("the stream has come to its end", lambda: self.counted() == self.counted(), 20)
        self.end_claims()
        for _, path, target, body in list(carried_out):
            if path.endswith("/outbound-emails"):
                tags = {tag["Name"]: [tag["Value"]] for tag in json.loads(body)["EmailTags"]}
                detail = {"eventType": "Send", "mail": {"tags": tags}}
                self.invoke("NotifyFunction", {"source": "aws.ses", "detail-type": "Email Sent", "detail": detail})
        for entry in events(carried_out):
            event = {"source": entry["Source"], "detail-type": entry["DetailType"], "detail": json.loads(entry["Detail"])}
            until("the event is taken", lambda: "FunctionError" not in self.invoke("NotifyFunction", event), 20)

    def counted(self):
        usage = check(self.insist("GET", self.path + "/usage?group_by=feature"), 200)
        return json.dumps([usage["groups"], usage["total"]], sort_keys=True), len(mails_to(self.workspace))

    def end_claims(self):
        """Ends the claims of killed processes, so that the test need not wait two minutes."""
        table = emulator.client("dynamodb")
        for item in table.scan(TableName=self.resources["Table"])["Items"]:
            if item["pk"]["S"].startswith("mail#") and "sent" not in item and "claimed_until" in item:
                table.put_item(TableName=self.resources["Table"], Item=item | {"claimed_until": {"N": "1"}})

    def end(self):
        """Returns the result of the life."""
        read = lambda path: check(self.insist("GET", self.path + path), 200)
        balance, usage = read("/balance"), read("/usage?group_by=feature")
        return {
            "ledger": sorted(f"{entry['kind']} {entry['credits']}" for entry in read("/ledger")["entries"]),
            "balance": {name: balance[name] for name in ("available", "prepaid", "held", "spendable")},
            "usage": [usage["groups"], usage["total"]],
            "runs": [run["status"] for run in read("/runs")["runs"]],
            "subscription": {name: read("/subscription")[name] for name in ("status", "period", "tier")},
            "mails": sorted(subject.replace(self.workspace, "…") for subject in mails_to(self.workspace)),
            "charges": charges_of(self.workspace),
        }


def events(carried_out):
    """Yields the events that were published on the bus."""
    for _, _, target, body in list(carried_out):
        if target.endswith(".PutEvents"):
            yield from json.loads(body)["Entries"]


def mails_to(workspace):
    return [mail["Subject"] for mail in emulator.mails() if any(f"@{workspace}.example" in to for to in mail["To"])]


def charges_of(workspace):
    """Returns the amounts of the workspace's succeeded payments at the provider."""
    provider = urllib.parse.urlsplit(PROVIDER)
    intents, page = [], {"has_more": True}
    while page["has_more"]:
        after = f"&starting_after={intents[-1]['id']}" if intents else ""
        path = f"{provider.path}/v1/payment_intents?limit=100{after}"
        connection = http.client.HTTPConnection(provider.netloc, timeout=30)
        connection.request("GET", path, headers={"Authorization": "Bearer sk_local"})
        page = json.loads(connection.getresponse().read())
        intents += page["data"]
    ours = [intent for intent in intents if intent["metadata"].get("workspace_id") == workspace]
    return sorted(intent["amount"] for intent in ours if intent["status"] == "succeeded")


def live(api, resources, wires, workspace, plan):
    """Plays a life. Returns its result, the kills, and the number of requests of each function."""
    for wire in wires:
        wire.begin(plan)
    life = Life(api, resources, workspace)
    life.live(wires[0].carried_out)
    killed = [kill for wire in wires for kill in wire.killed]
    asked = {function: max(wire.asked.get(function, 0) for wire in wires) for wire in wires for function in wire.asked}
    for wire in wires:
        wire.begin({})
    return life.end(), killed, asked


def play(api, resources, wires):
    wanted, _, asked = live(api, resources, wires, "unharmed", {})
    print(f"   a life without a kill: {json.dumps(wanted)}", flush=True)
    most = max(asked.values()) if MOST == "all" else int(MOST)
    kills = {}
    for number in range(1, most + 1):
        for when in ("before", "after"):
            plan = {function: (number, when) for function, count in asked.items() if count >= number}
            got, killed, _ = live(api, resources, wires, f"life-{number}-{when}", plan)
            assert got == wanted, (plan, killed, got)
            print(f"   {time.strftime('%X')} at request {number}, {when}: {len(killed)} killed", flush=True)
            for function, _, _ in killed:
                kills[function] = kills.get(function, 0) + 1
    for function, count in sorted(kills.items()):
        print(f"   {function}, which asks {asked[function]} times, was killed {count} times", flush=True)
    print("   every life came to the same end: granted, charged, counted and mailed once", flush=True)
