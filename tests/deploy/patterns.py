"""Checks the patterns of the bus's rules and of the stream's filter with the events that they are for.

ses-events.json has SES's events as AWS documents them (Amazon SES developer guide, "Examples of event data"), without the
mails' headers, in EventBridge's envelope. SES names either the configuration set or the sender's identity in `resources`.
"""

import copy
import glob
import json

from alarms import resolved
from expand import source

CONFIGURATION_SET = "ConfigSet"
IDENTITY = "arn:aws:ses:us-east-1:123456789012:identity/sender@example.com"


def matches(pattern, event):
    """Evaluates a pattern of EventBridge with exact values, prefixes and `anything-but`. Of an array, one element is enough."""
    if isinstance(pattern, dict):
        return isinstance(event, dict) and all(name in event and matches(part, event[name]) for name, part in pattern.items())
    values = event if isinstance(event, list) else [event]
    return any(
        admits(one, value) for one in pattern for value in values
    )


def admits(one, value):
    if not isinstance(one, dict):
        return value == one
    return value not in one["anything-but"] if "anything-but" in one else isinstance(value, str) and value.startswith(one["prefix"])


def changed(event, *path, to):
    event = copy.deepcopy(event)
    part = event
    for name in path[:-1]:
        part = part[name]
    part[path[-1]] = to
    return event


def check_feedback(pattern):
    with open("tests/deploy/ses-events.json", encoding="utf-8") as file:
        events = json.load(file)
    assert {event["detail-type"] for event in events} == set(pattern["detail-type"])
    for event in events:
        for resources in ([f"arn:aws:ses:us-east-1:123456789012:configuration-set/{CONFIGURATION_SET}"], [IDENTITY], []):
            assert matches(pattern, event | {"resources": resources}), (event["detail-type"], resources)
        for other in (
            changed(event, "detail", "mail", "tags", "ses:configuration-set", to=["another"]),
            changed(event, "detail", "mail", "tags", to={}),
            event | {"detail-type": "Email Delivered"},
            event | {"source": "aws.s3"},
        ):
            assert not matches(pattern, other), other


def check_facts(rules):
    """Checks that each event of the product matches the rules that name it, and that rules name no other."""
    names = {path.split("/")[-1][:-5] for path in glob.glob("infra/events/*.json")} | {"RecordUnread"}
    for pattern in rules:
        assert set(pattern["detail-type"]) <= names, set(pattern["detail-type"]) - names
        kinds = pattern.get("detail", {}).get("kind", [])
        for name in names:
            for kind in ["top_up", "allocation", "grant", "claw_back_reversed"]:
                event = {"source": "ai-credits", "detail-type": name, "detail": {"kind": kind}}
                assert matches(pattern, event) == (name in pattern["detail-type"] and (not kinds or kind in kinds))


def check_filter(filters):
    image = lambda kind: {"NewImage": {"detail": {"M": {"kind": {"S": kind}}}}} if kind else {}
    record = lambda key, kind=None: {"dynamodb": {"Keys": {"pk": {"S": key}, "sk": {"S": "entry"}}} | image(kind)}
    passes = lambda *of: any(matches(json.loads(it["Pattern"]), record(*of)) for it in filters)
    assert passes("balance#acme") and passes("alerts#acme") and passes("lane#acme#1") and passes("entry#acme#1", "top_up") and passes("entry#acme#1", "claw_back")
    for of in [("usage#acme#2026-11",), ("mail#1",), ("entry#acme#1", "debit"), ("entry#acme#1", "batch")]:
        assert not passes(*of), of


def main():
    resources = resolved(source(), {"MailFeedback": CONFIGURATION_SET})["Resources"]
    events = lambda function: resources[function]["Properties"]["Events"]
    feedback = events("NotifyFunction")["Feedback"]["Properties"]["Pattern"]
    check_feedback(feedback)
    facts = [events("NotifyFunction")["Facts"], events("RenewalFunction")["TopUpWanted"], events("RenewalFunction")["CreditsAdded"]]
    check_facts([it["Properties"]["Pattern"] for it in facts] + [resources["UnreadRecords"]["Properties"]["EventPattern"]])
    check_filter(events("ProjectFunction")["Stream"]["Properties"]["FilterCriteria"]["Filters"])
    print("The rules match SES's events in both shapes and the product's own, and no others.")


if __name__ == "__main__":
    main()
