"""Compares what each function's role allows with what the function requests, in both directions.

    privileges.py USED

USED lists the permissions that the requests of the whole suite needed (AI_CREDITS_PERMISSIONS_USED of `cargo test`),
one JSON object per line. What Lambda does on a function's behalf follows from the template: it writes logs and traces,
reads the stream, and sends failed events to a queue. A function also reads the parameter that its environment names.
"""

import copy
import json
import sys

from expand import expanded, source

# Actions without a resource that a policy could name (AWS's service authorization reference).
WITHOUT_RESOURCE = {"xray:PutTraceSegments", "xray:PutTelemetryRecords"}
STREAM = ["dynamodb:DescribeStream", "dynamodb:GetRecords", "dynamodb:GetShardIterator"]


def name_of(resource):
    """Formats a resource as one line, in whatever form the template has it."""
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
            # A statement under a condition of the template counts as present.
            yield statement["Fn::If"][1] if "Fn::If" in statement else statement


def allowed(role):
    """Yields what a role allows: each combination of action, resource and leading key."""
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
    """Returns the permissions that the functions' requests needed, by binary."""
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
    """Returns the permissions that Lambda needs on the function's behalf."""
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
    """Returns every permission that no request needs, and every request that no permission covers."""
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
    """Yields the roles with inline policies, by name."""
    for name, resource in template["Resources"].items():
        if resource["Type"] == "AWS::IAM::Role" and "Policies" in resource["Properties"]:
            yield name, resource["Properties"]


def mutations(template):
    """Yields the template once without each statement of each function's role, and once with an action added to it."""
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
    """Checks that each role that SAM creates for a schedule may invoke one function only."""
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
