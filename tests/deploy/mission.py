"""Plays the product's main scenario against the deployed API, and prints each step."""

import json
import os
import sys
import time

import emulator
import kills
import operations
from caller import Api, check, pay
from emulator import until
from issuer import Issuer
from wire import Wire

work, sam = sys.argv[1:]


def said(text):
    print(f"   {text}", flush=True)


def debit(credits=None, consumer=None):
    consumer = consumer or {"kind": "action", "feature": "assistant", "user_id": "ada"}
    size = {"credits": credits} if credits else {"units": {"input_tokens": 1200, "output_tokens": 800}}
    return {"operation": "text.generate", "consumer": consumer, **size}


def available(api):
    return check(api("GET", "/v1/workspaces/acme/balance"), 200)["available"]


def mail_about(text):
    return lambda: [mail for mail in emulator.mails() if text in json.dumps(mail)]


def play(api, issuer):
    w = "/v1/workspaces/acme"
    assert api("GET", w + "/balance", token="")[0] == 401
    assert api("GET", w + "/balance", token=issuer.token("acme", audience="others"))[0] == 401
    assert check(api("GET", w + "/balance", token=issuer.token("other")), 403)["code"] == "workspace_forbidden"
    said("no token: 401; another audience's: 401; another workspace's: 403")

    profile = {"name": "Acme", "plan": "team", "billing_email": "billing@acme.example"}
    check(api("PUT", w, profile), 201)
    refused = check(api("POST", w + "/debits", debit(), key="early"), 402)
    assert refused["top_up_url"].endswith("/settings/ai-credits"), refused
    said(f"a workspace without credits: 402, and add some at {refused['top_up_url']}")

    top_up = check(api("POST", w + "/top-ups", {"pack": "pack_1k"}, key="order"), 201)
    tell = pay(api, top_up["checkout_id"])
    assert tell("whsec_wrong")[0] == 400 and available(api) == "0"
    check(tell(), 200)
    assert available(api) == "1000"
    check(tell(), 200)
    assert available(api) == "1000"
    said("a pack is paid: a wrongly signed event grants nothing, the right one 1,000 credits, and again nothing")

    assert check(api("POST", w + "/debits", debit(), key="call"), 201)["credits"] == "2.3"
    assert check(api("POST", w + "/debits", debit(), key="call"), 200)["credits"] == "2.3"
    assert available(api) == "997.7"
    said("an AI call draws 2.3 credits, once, however often it is sent")

    def counted():
        usage = check(api("GET", w + "/usage?group_by=feature"), 200)
        return [group for group in usage["groups"] if group == {"key": "assistant", "credits": "2.3", "count": 1}]

    until("the stream's usage", counted)
    said("the stream has counted it: assistant 2.3")

    alert = {"low_balance": {"enabled": True, "threshold": "500", "recipients": ["ada@acme.example"]}}
    check(api("PUT", w + "/alerts", alert), 201)
    check(api("POST", w + "/debits", debit("600"), key="big"), 201)
    until("the low-balance mail", mail_about("ada@acme.example"))
    said("below 500 credits: a mail to ada")

    run = check(api("POST", w + "/runs", {"workflow_id": "nightly", "trigger": "scheduled"}, key="run"), 201)
    step = {"kind": "workflow_step", "workflow_id": "nightly", "run_id": run["run_id"], "step_id": "write"}
    assert check(api("POST", w + "/debits", debit("5000", step), key="step"), 402)["shortfall"] == "4602.3"
    assert check(api("GET", f"{w}/runs/{run['run_id']}"), 200)["status"] == "failed"
    until("the failed run's mail", mail_about("nightly"))
    said("a scheduled run that can't be paid: 402, failed, and a mail")

    page = api("GET", "/settings/ai-credits", token="")
    assert page[0] == 200 and b"<!doctype html>" in page[1], page
    assert len(check(api("GET", "/v1/openapi.json", token=""), 200)["paths"]) > 15
    said("the settings page and the description of the calls are served")


def renew(api, resources):
    """Checks that the schedule alone renews a subscription whose month is over."""
    w = "/v1/workspaces/acme"
    before = check(api("PUT", w + "/subscription", {"tier": "tier_2k"}), 201)
    assert (before["status"], before["period"]) == ("active", 1), before
    said("a subscription is charged to the card that paid the pack")
    emulator.age_subscription(resources["Table"], "acme")
    said(f"schedules fire each minute: {', '.join(emulator.fire_every_minute())}")

    def renewed():
        now = check(api("GET", w + "/subscription"), 200)
        return now["period"] == 2 and now["status"] == "active" and len(allocations(api)) == 2

    until("the renewal", renewed, 150)
    said("a subscription whose month is over was charged and renewed by the schedule")


def change_a_parameter(api, resources, values):
    """Checks that a change of a parameter alone reaches the aliases, and that nothing is published without a change."""
    before = emulator.live_versions(resources)
    values = values | {"TopUpUrl": "https://hub.example/credits"}
    emulator.deploy(sam, work, values)
    after = emulator.live_versions(resources)
    assert not set(before.items()) & set(after.items()), (before, after)
    refused = check(api("POST", "/v1/workspaces/acme/debits", debit("99999"), key="too-much"), 402)
    assert refused["top_up_url"] == values["TopUpUrl"], refused
    said(f"each of the {len(after)} aliases has a new version, and a refusal has the new address")
    emulator.deploy(sam, work, values, "--no-fail-on-empty-changeset")
    assert emulator.live_versions(resources) == after
    said("the same again: no new version")


def adopt_the_table(issuer, resources, values, credits):
    """Deletes the stack, and creates it again with its table."""
    table = resources["Table"]
    emulator.delete()
    assert table in emulator.client("dynamodb").list_tables()["TableNames"], "the table went with the stack"
    groups = {group["logGroupName"] for group in emulator.client("logs").describe_log_groups()["logGroups"]}
    assert resources["DebitLogs"] in groups and resources["ApiLogs"] in groups, groups
    said("the stack is deleted; table and log groups are still there")
    resources = emulator.deploy(sam, work, values, "--adopt", table)
    assert resources["Table"] == table, resources["Table"]
    url, _ = emulator.add_routes(resources, values)
    assert available(Api(url, issuer.token("*"))) == credits
    said(f"a new stack has adopted it, with the {credits} credits of acme")


def allocations(api):
    entries = check(api("GET", "/v1/workspaces/acme/ledger?kind=allocation"), 200)["entries"]
    return [entry["period"] for entry in entries]


def main():
    emulator.ready()
    issuer = Issuer(work)
    traces = operations.Traces()
    wire = Wire(int(os.environ["WIRE_PORT"]), os.environ["AWS_ENDPOINT_URL"])
    provider_wire = Wire(int(os.environ["PROVIDER_WIRE_PORT"]), os.environ["PROVIDER"])
    values = emulator.parameters(issuer.url, f"http://127.0.0.1:{os.environ['PROVIDER_WIRE_PORT']}")
    print("-- infra/deploy", flush=True)
    emulator.prepare(work)
    resources = emulator.deploy(sam, work, values)
    url, routes = emulator.add_routes(resources, values)
    said(f"{len(resources)} resources; {routes} routes, each of them the template's")
    print("-- the mission", flush=True)
    api = Api(url, issuer.token("*"))
    try:
        play(api, issuer)
        operations.check(resources, traces)
        print("-- kill -9 in the middle of each step, and the same again", flush=True)
        kills.play(api, resources, [wire, provider_wire])
        print("-- a month later", flush=True)
        renew(api, resources)
        print("-- a change of a parameter alone", flush=True)
        change_a_parameter(api, resources, values)
        print("-- the stack is deleted, and its table adopted", flush=True)
        adopt_the_table(issuer, resources, values, available(api))
    except Exception:
        for group, line in emulator.logs():
            if "ERROR" in line or "WARN" in line:
                print(group, line)
        raise
    emulator.delete()


main()
