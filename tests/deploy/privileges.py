"""Compares what each function's role allows with what the function asks for, both ways.

    privileges.py USED

USED lists what the whole suite was seen to ask for at the wire (AI_CREDITS_PERMISSIONS_USED of `cargo test`), a JSON
object a line. What Lambda itself does in a function's name follows from the template: it writes logs and traces, reads
the stream, lays failed events aside; and a secret's parameter is read by the function that is told its name.
"""

import copy
import json
import sys

from expand import expanded, source

# What has no resource that a policy could name (AWS's service authorisation reference).
WITHOUT_RESOURCE = {"xray:PutTraceSegments", "xray:PutTelemetryRecords"}
STREAM = ["dynamodb:DescribeStream", "dynamodb:GetRecords", "dynamodb:GetShardIterator"]


def name_of(resource):
    """A resource in one line, however it is written."""
    if isinstance(resource, str):
        return resource
    (kind, value), = resource.items()
    if kind == "Fn::GetAtt":
        return "${" + (value if isinstance(value, str) else ".".join(value)) + "}"
    return "${" + value + "}" if kind == "Ref" else value


def listed(value):
    return value if isinstance(value, list) else [value]


def statements(role):
    assert not role.get("ManagedPolicyArns"), "a managed policy allows more than is asked for"
    for policy in role["Policies"]:
        for statement in policy["PolicyDocument"]["Statement"]:
            # What stands under a condition of the template is as good as there.
            yield statement["Fn::If"][1] if "Fn::If" in statement else statement


def allowed(role):
    """What a role allows: action, resource and leading key, one by one."""
    for statement in statements(role):
        assert statement["Effect"] == "Allow", statement
        condition = statement.get("Condition", {})
        keys = condition.get("ForAllValues:StringLike", {}).get("dynamodb:LeadingKeys", [""])
        assert set(condition) <= {"ForAllValues:StringLike"}, condition
        for action in listed(statement["Action"]):
            assert "*" not in action, f"{action} is more than one action"
            for resource in map(name_of, listed(statement["Resource"])):
                assert resource != "*" or action in WITHOUT_RESOURCE, f"{action} on everything"
                for key in keys:
                    yield action, resource, key


def used(lines):
    """What functions were seen to ask for, by the function's binary."""
    resources = {"table": "${Table.Arn}", "by_time": "${Table.Arn}/index/by_time"}
    services = {"events:PutEvents": ["${Bus.Arn}"], "ses:SendEmail": [
        "arn:${AWS::Partition}:ses:${AWS::Region}:${AWS::AccountId}:identity/*",
        "arn:${AWS::Partition}:ses:${AWS::Region}:${AWS::AccountId}:configuration-set/${MailFeedback}",
    ]}
    asked = {}
    for line in map(json.loads, lines):
        action, key = line["action"], line["leading_key"]
        key = key + "*" if key.endswith("#") else key
        for resource in services.get(action) or [resources[line["resource"]]]:
            asked.setdefault(line["function"], set()).add((action, resource, key))
    return asked


def used_by_lambda(function):
    """What Lambda does in the function's name."""
    group = name_of(function["LoggingConfig"]["LogGroup"])[2:-1]
    asked = {(action, "${" + group + ".Arn}", "") for action in ["logs:CreateLogStream", "logs:PutLogEvents"]}
    asked |= {(action, "*", "") for action in WITHOUT_RESOURCE}
    for event in function.get("Events", {}).values():
        if event["Type"] == "DynamoDB":
            asked |= {(action, "${Table.StreamArn}", "") for action in STREAM}
            asked.add(("dynamodb:ListStreams", "${Table.Arn}/stream/*", ""))
            asked.add(("sqs:SendMessage", destination(event["Properties"]), ""))
    if "EventInvokeConfig" in function:
        asked.add(("sqs:SendMessage", destination(function["EventInvokeConfig"]), ""))
    for variable, value in function.get("Environment", {}).get("Variables", {}).items():
        if variable.endswith("_PARAMETER"):
            parameter = "arn:${AWS::Partition}:ssm:${AWS::Region}:${AWS::AccountId}:parameter" + name_of(value)
            asked.add(("ssm:GetParameter", parameter, ""))
            asked.add(("secretsmanager:GetSecretValue", "${SecretsManagerArn}", ""))
    return asked


def destination(config):
    return name_of(config["DestinationConfig"]["OnFailure"]["Destination"])


def differences(template, written, asked):
    """Every permission that is not asked for, and every request that no permission covers."""
    found = []
    for name, function in written["Resources"].items():
        if function["Type"] != "AWS::Serverless::Function":
            continue
        binary = function["Metadata"]["BuildProperties"]["Binary"]
        role = name_of(template["Resources"][name]["Properties"]["Role"])[2:-1].split(".")[0]
        has = set(allowed(template["Resources"][role]["Properties"]))
        needs = asked.get(binary, set()) | used_by_lambda(function["Properties"])
        found += [f"{binary} may {' '.join(one)}, and never does" for one in sorted(has - needs)]
        found += [f"{binary} asks for {' '.join(one)}, and may not" for one in sorted(needs - has)]
    return found


def roles(template):
    """The roles whose policies are written out, by name."""
    for name, resource in template["Resources"].items():
        if resource["Type"] == "AWS::IAM::Role" and "Policies" in resource["Properties"]:
            yield name, resource["Properties"]


def mutations(template):
    """Each statement of each function's role taken away, and each with one more action in it."""
    for name, role in roles(template):
        if not name.endswith("Role") or "lambda" not in json.dumps(role["AssumeRolePolicyDocument"]):
            continue
        for at, statement in enumerate(role["Policies"][0]["PolicyDocument"]["Statement"]):
            less, more = copy.deepcopy(template), copy.deepcopy(template)
            del statements_of(less, name)[at]
            yield f"{name} without {statement}", less
            changed = statements_of(more, name)[at]
            changed = changed.get("Fn::If", [None, changed])[1]
            if name_of(listed(changed["Resource"])[0]) != "*":
                changed["Action"] = listed(changed["Action"]) + ["dynamodb:Scan"]
                yield f"{name} with more than {statement}", more


def statements_of(template, role):
    return template["Resources"][role]["Properties"]["Policies"][0]["PolicyDocument"]["Statement"]


def check_schedules(template):
    """The roles that SAM makes for schedules may invoke one function each."""
    for name, role in roles(template):
        if "scheduler" in json.dumps(role["AssumeRolePolicyDocument"]):
            for statement in statements(role):
                assert listed(statement["Action"]) == ["lambda:InvokeFunction"], name
                assert "*" not in map(name_of, listed(statement["Resource"])), name


def main():
    with open(sys.argv[1], encoding="utf-8") as file:
        asked = used(file)
    template, written = expanded(), source()
    found = differences(template, written, asked)
    print("\n".join(found), end="\n" if found else "")
    if found:
        sys.exit(1)
    check_schedules(template)
    print(f"{sum(map(len, asked.values()))} permissions are asked for at the wire; each is given, and no other.")
    mutated = list(mutations(template))
    for what, mutation in mutated:
        assert differences(mutation, written, asked), f"nobody noticed {what}"
    print(f"{len(mutated)} mutations of the policies, each of them noticed.")


if __name__ == "__main__":
    main()
