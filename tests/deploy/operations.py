"""Checks the operators' tools in the deployed stack: metrics, traces, alarms, the dashboard, dead letters."""

import hashlib
import json
import os
import socket
import threading

import emulator
from emulator import until


class Traces:
    """A stand-in for X-Ray's daemon that keeps the segments of the functions."""

    def __init__(self):
        self.segments = []
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        host, port = os.environ["AWS_XRAY_DAEMON_ADDRESS"].split(":")
        self.socket.bind((host, int(port)))
        threading.Thread(target=self.listen, daemon=True).start()

    def listen(self):
        while True:
            header, segment = self.socket.recvfrom(65536)[0].split(b"\n", 1)
            assert json.loads(header) == {"format": "json", "version": 1}
            self.segments.append(json.loads(segment))


def said(text):
    print(f"   {text}", flush=True)


def metrics():
    """Returns every metric in the functions' logs, with its dimensions."""
    found = {}
    for _, line in emulator.logs():
        if line.startswith('{"_aws"'):
            for directive in json.loads(line)["_aws"]["CloudWatchMetrics"]:
                assert directive["Namespace"] == "AiCredits"
                for metric in directive["Metrics"]:
                    found[metric["Name"]] = directive["Dimensions"][0]
    return found


def check(resources, traces):
    found = metrics()
    for name in ["Replays", "Refusals", "PaymentsSettled", "EventsTold", "MailsSent"]:
        assert name in found, f"{name} of {sorted(found)}"
    assert found["Refusals"] == ["Stack", "Code"] and found["Replays"] == ["Stack"], found
    said(f"metrics: {', '.join(sorted(found))}")

    asked = {f"{segment['name']} {segment['aws']['operation']}" for segment in traces.segments}
    for step in ["DynamoDB TransactWriteItems", "SSM GetParameter", "EventBridge PutEvents", "SESv2 SendEmail"]:
        assert step in asked, f"{step} of {asked}"
    said(f"segments of traces: {', '.join(sorted(asked))}")

    alarms = emulator.client("cloudwatch").describe_alarms()["MetricAlarms"]
    dashboard = emulator.client("cloudwatch").get_dashboard(DashboardName=emulator.STACK)
    widgets = json.loads(dashboard["DashboardBody"])["widgets"]
    assert len(alarms) >= 18 and len(widgets) >= 10, (len(alarms), len(widgets))
    said(f"{len(alarms)} alarms, and a dashboard with {len(widgets)} widgets")
    lay_aside(resources)
    switch_off(resources)


def switch_off(resources):
    """Delivers SES's events as AWS documents them, and checks that the addresses get no more mails."""
    with open("tests/deploy/ses-events.json", encoding="utf-8") as file:
        for event in json.load(file):
            answer = emulator.client("lambda").invoke(FunctionName=resources["NotifyFunction"] + ":live", Payload=json.dumps(event))
            assert "FunctionError" not in answer, answer
    for address in ("recipient@example.com", "annoyed@example.com"):
        digest = hashlib.sha256(address.encode()).hexdigest()
        key = {"pk": {"S": f"address#{digest}"}, "sk": {"S": "address"}}
        assert "Item" in emulator.client("dynamodb").get_item(TableName=resources["Table"], Key=key), address
    said("SES's sample events of a bounce and a complaint switch the addresses off")


def lay_aside(resources):
    """Writes an unreadable item, and checks that its record is quarantined and that later records are processed."""
    item = {"pk": {"S": "balance#spoilt"}, "sk": {"S": "balance"}, "version": {"S": "?"}}
    emulator.client("dynamodb").put_item(TableName=resources["Table"], Item=item)

    def laid_aside():
        queue = resources["EventDeadLetters"]
        messages = emulator.client("sqs").receive_message(QueueUrl=queue, VisibilityTimeout=0).get("Messages", [])
        return [message for message in messages if "RecordUnread" in message["Body"]]

    until("the dead letter", laid_aside)
    said("a record of the stream that can't be read waits in the dead-letter queue")
