"""Tests each alarm with the metrics that a fault sends: it rings during the fault, and at no other time.

Evaluates the alarms of the templates as CloudWatch does: periods, statistics, metric math, missing data. A new alarm without
a fault in FAULTS fails.
"""

import ast
import fnmatch
import json
import math
import operator
import re

from expand import expanded, of_type, source

# The metrics that AWS documents, each with its dimensions. An alarm on any other metric of AWS would never ring.
OF_AWS = {
    "AWS/ApiGateway": {"5xx": {"ApiId"}},
    "AWS/Lambda": {
        "Errors": {"FunctionName"}, "Invocations": {"FunctionName"}, "IteratorAge": {"FunctionName"}, "Throttles": set(),
    },
    "AWS/SQS": {"ApproximateNumberOfMessagesVisible": {"QueueName"}},
    "AWS/Scheduler": {"TargetErrorCount": {"ScheduleGroup"}, "InvocationDroppedCount": {"ScheduleGroup"}},
    "AWS/SES": {"Reputation.BounceRate": {"ses:configuration-set"}, "Reputation.ComplaintRate": {"ses:configuration-set"}},
    "AWS/DynamoDB": {
        "SystemErrors": {"TableName", "Operation"},
        "ReadThrottleEvents": {"TableName", "GlobalSecondaryIndexName"},
        "WriteThrottleEvents": {"TableName", "GlobalSecondaryIndexName"},
    },
}
FUNCTIONS = ["Debit", "Account", "TopUpWebhook", "Renewal", "Project", "Notify"]
# The minutes of a fault, of five hours.
FAULT, HOURS = range(60, 180), range(300)


def resolved(value, names):
    """Replaces references by the names of what they refer to."""
    if isinstance(value, dict) and len(value) == 1:
        (kind, of), = value.items()
        if kind == "Ref":
            return names.get(of, of)
        if kind == "Fn::Sub" and isinstance(of, str):
            return re.sub(r"\${([\w:.]+)}", lambda match: names.get(match[1], match[1]), of)
        if kind == "Fn::GetAtt":
            return ".".join(of)
    if isinstance(value, dict):
        return {name: resolved(part, names) for name, part in value.items()}
    return [resolved(part, names) for part in value] if isinstance(value, list) else value


def templates():
    """Returns the stack, and the nested stack with the operators' alarms, with the names of the stack's resources."""
    stack = resolved(expanded(), {"AWS::StackName": "STACK"})
    passed = stack["Resources"]["Operations"]["Properties"]["Parameters"]
    return stack, resolved(source("infra/operations.yaml"), passed | {"AWS::StackName": "STACK"})


def key(metric):
    dimensions = {it["Name"]: it["Value"] for it in metric.get("Dimensions", [])}
    of = [value for name, value in dimensions.items() if name != "Stack"]
    return " ".join([metric["Namespace"], metric["MetricName"], *of]), dimensions


class Alarm:
    """An alarm of a template."""

    def __init__(self, properties):
        self.properties = properties
        self.math, self.metrics = {}, {}
        alone = {"Stat": properties.get("Statistic"), "Period": properties.get("Period"), "Metric": properties}
        for metric in properties.get("Metrics", [{"Id": "m", "MetricStat": alone}]):
            if "Expression" in metric:
                self.math[metric["Id"]] = ast.parse(metric["Expression"].replace("AND", "and"), mode="eval").body
                self.result = metric["Id"] if metric.get("ReturnData", True) else self.result
            else:
                self.metrics[metric["Id"]] = metric["MetricStat"]
        self.period = next(iter(self.metrics.values()))["Period"] // 60
        assert all(it["Period"] // 60 == self.period for it in self.metrics.values())

    def point(self, samples, start):
        """Returns the data point of the period that starts at a minute; None if it has none."""
        values = {}
        for name, stat in self.metrics.items():
            there = samples.get(key(stat["Metric"])[0], {})
            there = [there[minute] for minute in range(start, start + self.period) if there.get(minute) is not None]
            values[name] = {"Sum": sum, "Maximum": max, "SampleCount": len}[stat["Stat"]](there) if there else None
        return evaluated(self.math[self.result], values, self.math) if self.math else values["m"]

    def rings(self, samples):
        """Returns the minutes at which the alarm's state is ALARM."""
        it, state, points, ringing = self.properties, False, [], set()
        missing = {"notBreaching": False, "breaching": True, "ignore": None}[it["TreatMissingData"]]
        for start in range(0, len(HOURS), self.period):
            point = self.point(samples, start)
            above = {"GreaterThanThreshold": operator.gt, "GreaterThanOrEqualToThreshold": operator.ge}[it["ComparisonOperator"]]
            points.append(missing if point is None else above(point, it["Threshold"]))
            recent = points[-it["EvaluationPeriods"]:]
            if None not in recent and len(recent) == it["EvaluationPeriods"]:
                state = recent.count(True) >= it.get("DatapointsToAlarm", it["EvaluationPeriods"])
            if state:
                ringing |= set(range(start + self.period, start + 2 * self.period))
        return ringing


def evaluated(node, values, math):
    """Evaluates metric math for one period. A missing value makes the result missing; in an array it is left out."""
    if isinstance(node, ast.Constant):
        return node.value
    if isinstance(node, ast.Name):
        return evaluated(math[node.id], values, math) if node.id in math else values[node.id]
    if isinstance(node, ast.Call) and node.func.id in ("SUM", "MAX"):
        array = node.args[0]
        parts = [evaluated(part, values, math) for part in array.elts] if isinstance(array, ast.List) else list(values.values())
        parts = [part for part in parts if part is not None]
        return {"SUM": sum, "MAX": max}[node.func.id](parts) if parts else None
    if isinstance(node, ast.Call):
        assert node.func.id == "IF", node.func.id
        condition, then, otherwise = (evaluated(part, values, math) for part in node.args)
        return None if condition is None else then if condition else otherwise
    if isinstance(node, ast.BoolOp):
        (first, second), operation = node.values, node.op
    elif isinstance(node, ast.Compare):
        first, (second,), (operation,) = node.left, node.comparators, node.ops
    else:
        first, second, operation = node.left, node.right, node.op
    first, second = evaluated(first, values, math), evaluated(second, values, math)
    both = {ast.And: operator.and_, ast.Gt: operator.gt, ast.Eq: operator.eq, ast.Mult: operator.mul, ast.Div: operator.truediv}
    return None if None in (first, second) else both[type(operation)](first, second)


def each(value, every=1, minutes=FAULT):
    return {minute: value for minute in minutes if minute % every == 0}


IDLE = {"AiCredits SweepLagSeconds": each(0, 15, HOURS), "AiCredits PaymentsUnmatchedOpen": each(0, 15, HOURS)}
# A call a second, and what happens on a day without a fault: a contended call, a declined card, a bounced mail.
BUSY = IDLE | {
    "AiCredits/STACK Debits": each(60, 1, HOURS),
    "AWS/Lambda Invocations DebitFunction": each(60, 1, HOURS),
    "AWS/Lambda Invocations AccountFunction": each(20, 1, HOURS),
    **{f"AWS/Lambda Errors {name}Function": each(0, 1, HOURS) for name in FUNCTIONS},
    "AWS/Lambda IteratorAge ProjectFunction": each(9_000, 1, HOURS),
    "AiCredits Failures": each(1, 30, HOURS),
    "AWS/ApiGateway 5xx Api": each(1, 30, HOURS),
    "AiCredits ConflictsGivenUp": each(1, 30, HOURS),
    "AiCredits EventsFailed": each(1, 30, HOURS),
    "AiCredits MailsFailed": each(1, 30, HOURS),
    "AWS/DynamoDB WriteThrottleEvents Table": each(5, 60, HOURS),
    "AWS/Scheduler TargetErrorCount Schedules": each(1, 60, HOURS),
    "AWS/SES Reputation.BounceRate MailFeedback": each(0.01, 60, HOURS),
    "AWS/SES Reputation.ComplaintRate MailFeedback": each(0.0002, 60, HOURS),
    "AiCredits/STACK ThrottledCalls": each(1, 30, HOURS),
}
# What each fault sends, and the alarms that ring.
FAULTS = {
    "the table fails": ({"AiCredits Failures": each(30), "AWS/ApiGateway 5xx Api": each(30)}, {"Failures", "ApiServerErrors"}),
    **{f"{name} crashes": ({f"AWS/Lambda Errors {name}Function": each(1, 60)}, {"Crashes"}) for name in FUNCTIONS[:3]},
    # Lambda counts the crash among the errors, too.
    **{f"{name} crashes": (
        {f"AWS/Lambda Errors {name}Function": each(1, 60), f"AiCredits/STACK {name}Crashes": each(1, 60)}, {"Crashes"})
       for name in FUNCTIONS[3:]},
    "API Gateway can't invoke a function": ({"AWS/ApiGateway 5xx Api": each(60)}, {"ApiServerErrors"}),
    "SES refuses all mails": (
        {"AiCredits MailsFailed": each(5), "AiCredits EventsFailed": each(5), "AWS/Lambda Errors NotifyFunction": each(5),
         "AWS/SQS ApproximateNumberOfMessagesVisible EventDeadLetters.QueueName": each(20)}, {"MailsFailed", "EventDeadLetters"}),
    "the account's concurrency is used up": ({"AWS/Lambda Throttles": each(1, 30)}, {"FunctionThrottles"}),
    "writes are throttled": ({"AWS/DynamoDB WriteThrottleEvents Table": each(20)}, {"TableThrottles"}),
    "writes of the index are throttled": ({"AWS/DynamoDB WriteThrottleEvents Table by_time": each(20)}, {"TableThrottles"}),
    "reads are throttled": ({"AWS/DynamoDB ReadThrottleEvents Table": each(20)}, {"TableThrottles"}),
    "reads of the index are throttled": ({"AWS/DynamoDB ReadThrottleEvents Table by_time": each(20)}, {"TableThrottles"}),
    **{f"DynamoDB fails at {name}": ({f"AWS/DynamoDB SystemErrors Table {name}": each(5)}, {"TableErrors"})
       for name in ("BatchGetItem", "GetItem", "Query", "TransactWriteItems", "UpdateItem")},
    "the throttle refuses a caller": ({"AiCredits/STACK ThrottledCalls": each(5)}, {"CallsThrottled"}),
    "a workspace is too busy": ({"AiCredits ConflictsGivenUp": each(5)}, {"ConflictsGivenUp"}),
    "project is too slow": ({"AWS/Lambda IteratorAge ProjectFunction": each(400_000)}, {"StreamLag"}),
    "the stream is switched off": ({"AWS/Lambda IteratorAge ProjectFunction": each(None)}, {"StreamStopped"}),
    "the stream is switched off, at one debit in ten minutes": (
        {"AWS/Lambda IteratorAge ProjectFunction": each(None), "AiCredits/STACK Debits": each(None) | each(1, 10)}, {"StreamStopped"}),
    "the stream is switched off, and credits are held": (
        {"AWS/Lambda IteratorAge ProjectFunction": each(None), "AiCredits/STACK Debits": each(None), "AiCredits HoldsPlaced": each(1)},
        {"StreamStopped"}),
    "the schedules may not invoke": (
        {"AWS/Scheduler TargetErrorCount Schedules": each(1, 5), "AiCredits SweepLagSeconds": each(None)},
        {"SchedulesFailed", "SweepLate"}),
    "a schedule's event is dropped": ({"AWS/Scheduler InvocationDroppedCount Schedules": each(3, 30)}, {"SchedulesFailed"}),
    "a sweep leaves something": (
        {"AWS/SQS ApproximateNumberOfMessagesVisible RenewalDeadLetters.QueueName": each(1)}, {"RenewalDeadLetters"}),
    "a payment fits nothing": ({"AiCredits PaymentsUnmatchedOpen": each(1, 15)}, {"PaymentsUnmatched"}),
    "usage differs": ({"AiCredits UsageDifferences": each(1, 60)}, {"UsageDifferences"}),
    "no sweep ends": ({"AiCredits SweepLagSeconds": each(None)}, {"SweepLate"}),
    "sweeps are late": ({"AiCredits SweepLagSeconds": each(4_000, 15)}, {"SweepLate"}),
    "mails bounce": ({"AWS/SES Reputation.BounceRate MailFeedback": each(0.05, 15)}, {"MailReputation"}),
    "mails are complained about": ({"AWS/SES Reputation.ComplaintRate MailFeedback": each(0.001, 15)}, {"MailReputation"}),
}


def check_faults(alarms):
    assert {name for _, rings in FAULTS.values() for name in rings} == set(alarms), "each alarm needs a fault that rings it"
    for name, alarm in alarms.items():
        for day in ({}, IDLE) if name != "SweepLate" else (IDLE,):
            assert not alarm.rings(day), f"{name} rings without traffic"
        assert not alarm.rings(BUSY), f"{name} rings on a good day"
        zeros = {key(stat["Metric"])[0]: each(0, 1, HOURS) for stat in alarm.metrics.values()}
        assert not alarm.rings(zeros), f"{name} rings at zero"
    for fault, (sent, rings) in FAULTS.items():
        samples = BUSY | {name: BUSY.get(name, {}) | values for name, values in sent.items()}
        for name, alarm in alarms.items():
            minutes = alarm.rings(samples)
            assert bool(minutes) == (name in rings), f"{fault}: {name} {'rings' if minutes else 'does not ring'}"
            assert not minutes & set(range(FAULT.start)) and len(HOURS) - 1 not in minutes, f"{name} rings outside of the fault"


def check_metrics(alarms, filters):
    """Checks that every metric exists. Those of our code are compared with it in tests/suite/operations.rs."""
    written = {f"{it['MetricNamespace']} {it['MetricName']}" for one in filters.values() for it in one["MetricTransformations"]}
    for name, alarm in alarms.items():
        for stat in alarm.metrics.values():
            metric, dimensions = key(stat["Metric"])
            space, called = metric.split(" ")[:2]
            documented = called in OF_AWS.get(space, {}) and set(dimensions) <= OF_AWS[space][called]
            assert metric in written or space == "AiCredits" or documented, f"{name}: {metric}"
    assert len(written) == len(filters) == 5, written


def matches(pattern, line):
    """Evaluates a filter pattern of CloudWatch Logs for a line of JSON."""
    def holds(match):
        value = line
        for part in match[1].split("."):
            value = value.get(part) if isinstance(value, dict) else None
        return str(value is not None and fnmatch.fnmatchcase(str(value), match[3]) == (match[2] == "="))
    condition = re.sub(r'\$\.([\w.]+) (!?=) "?([^" ]*)"?', holds, pattern.strip("{ }"))
    return eval(condition.replace("&&", "and").replace("||", "or"), {"__builtins__": {}})


def check_filters(stack, filters):
    """Checks the filters with the lines that Lambda and API Gateway write.

    Lambda reports an error type that has none of its own categories as Runtime.Unknown
    (GetValidRuntimeOrFunctionErrorType in aws/aws-lambda-runtime-interface-emulator)."""
    def report(status, error=None):
        return {"type": "platform.report", "record": {"requestId": "1", "status": status} | ({"errorType": error} if error else {})}
    crashes = [report("error", "Runtime.ExitError"), report("failure", "Runtime.OutOfMemory")]
    crashes += [report("timeout"), report("timeout", "Sandbox.Timedout")]
    others = [report("success"), report("error", "Runtime.Unknown"), {"level": "ERROR", "message": "an event failed"}]
    for name in FUNCTIONS[3:]:
        pattern = filters[f"{name}Crashes"]["FilterPattern"]
        assert filters[f"{name}Crashes"]["LogGroupName"] == f"{name}Logs"
        assert [matches(pattern, line) for line in crashes + others] == [True] * 4 + [False] * 3, name
    answered = lambda route, status: {"message": "answered", "route": f"POST /v1/workspaces/{{workspace_id}}/{route}", "status": status}
    calls = [("debits", 201), ("debits/batch", 201), ("debits", 200), ("debits", 402), ("holds", 201)]
    counted = [matches(filters["Debits"]["FilterPattern"], answered(*call)) for call in calls]
    assert counted == [True, True, False, False, False], counted
    access = of_type(stack, "AWS::ApiGatewayV2::Stage").popitem()[1]["Properties"]["AccessLogSettings"]["Format"]
    lines = [json.loads(access.replace("$context.status", status)) for status in ("429", "402")]
    assert [matches(filters["ThrottledCalls"]["FilterPattern"], line) for line in lines] == [True, False], lines


def check_canary(failures):
    """Checks that a version that fails every call rings within five minutes at one call a second, of which it gets a tenth."""
    samples = lambda failed: BUSY | {"AiCredits Failures": {5: failed}}
    least = next(failed for failed in range(1, 61) if failures.rings(samples(failed)))
    quiet = sum(math.exp(-6) * 6 ** failed / math.factorial(failed) for failed in range(least))
    # Four whole minutes of the five.
    assert quiet ** 4 < 1e-3, f"{least} failures are needed; the canary stays quiet with a probability of {quiet ** 4:.4f}"


def main():
    stack, operations = templates()
    alarms = of_type(stack, "AWS::CloudWatch::Alarm") | of_type(operations, "AWS::CloudWatch::Alarm")
    alarms = {name: Alarm(it["Properties"]) for name, it in alarms.items()}
    filters = {name: it["Properties"] for name, it in of_type(stack, "AWS::Logs::MetricFilter").items()}
    check_metrics(alarms, filters)
    check_filters(stack, filters)
    check_faults(alarms)
    check_canary(alarms["Failures"])
    widgets = json.loads(operations["Resources"]["Dashboard"]["Properties"]["DashboardBody"])["widgets"]
    shown = next(it["properties"]["alarms"] for it in widgets if it["type"] == "alarm")
    assert sorted(shown) == sorted(f"{name}.Arn" for name in alarms), "an alarm is missing on the dashboard"
    metrics = sum(len(alarm.metrics) for alarm in alarms.values())
    with open("docs/cost.md", encoding="utf-8") as file:
        assert f"{len(alarms)} alarms of {metrics} metrics" in file.read(), f"docs/cost.md must count {metrics} metrics"
    print(f"{len(alarms)} alarms of {metrics} metrics, tested with {len(FAULTS)} faults; each is on the dashboard.")


if __name__ == "__main__":
    main()
