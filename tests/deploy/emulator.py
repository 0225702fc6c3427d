"""The emulated AWS: the deployment, and workarounds for what the emulator lacks."""

import json
import os
import subprocess
import time
import urllib.request

import boto3
import yaml

STACK = "ai-credits-test"


def client(service):
    return boto3.client(service, endpoint_url=os.environ["AWS_ENDPOINT_URL"])


def until(what, look, seconds=60):
    """Repeats `look` until it returns something. Fails after `seconds`."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            found = look()
        except OSError:
            found = None
        if found:
            return found
        time.sleep(0.2)
    raise AssertionError(f"{what}: not within {seconds} seconds")


def ready():
    url = os.environ["AWS_ENDPOINT_URL"] + "/_ministack/health"
    until("the emulator answers", lambda: urllib.request.urlopen(url, timeout=2).status == 200)


class Loader(yaml.SafeLoader):
    """A loader that reads the template as plain data and ignores intrinsic functions."""


Loader.add_multi_constructor("!", lambda loader, suffix, node: None)


def template():
    with open("template.yaml", encoding="utf-8") as file:
        return yaml.load(file, Loader)


def parameters(issuer, provider):
    return {
        "Stage": "dev",
        "Tracing": "Active",
        "JwtIssuer": issuer,
        "JwtAudience": "ai-credits",
        "MailFrom": "AI Credits <credits@hub.example>",
        "StripeApiBase": provider,
    }


def prepare(work):
    """Creates what a deployment needs beforehand."""
    client("s3").create_bucket(Bucket="deploys")
    parameter = client("ssm").put_parameter
    parameter(Name="/ai-credits/dev/stripe/api-key", Value="sk_local", Type="SecureString")
    parameter(Name="/ai-credits/dev/stripe/webhook-secret", Value="whsec_test", Type="SecureString")
    client("sesv2").create_email_identity(EmailIdentity="credits@hub.example")
    with open(f"{work}/samconfig.toml", "w", encoding="utf-8") as config:
        config.write("version = 0.1\n")


def deploy(sam, work, values, *options):
    """Deploys the output of `sam build` with infra/deploy. Returns the resources' physical ids by logical id."""
    command = [
        os.path.join(os.path.dirname(sam), "python"), "infra/deploy", "--built", f"{work}/build", "--stack-name", STACK,
        "--s3-bucket", "deploys", "--capabilities", "CAPABILITY_IAM", "CAPABILITY_AUTO_EXPAND", "--no-confirm-changeset",
        "--no-progressbar", "--config-file", f"{work}/samconfig.toml", *options,
        *[f"{name}={value}" for name, value in values.items()],
    ]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise AssertionError(done.stdout + done.stderr)
    described = client("cloudformation").describe_stack_resources(StackName=STACK)["StackResources"]
    return {it["LogicalResourceId"]: it["PhysicalResourceId"] for it in described}


def live_versions(resources):
    """Returns the version to which the alias of each function points."""
    names = [name for name in resources if name.endswith("Function")]
    alias = lambda name: client("lambda").get_alias(FunctionName=resources[name], Name="live")
    return {name: alias(name)["FunctionVersion"] for name in names}


def add_routes(resources, values):
    """Adds the routes and the authorizer, which the emulator omits. Returns the API's URL and the number of routes."""
    gateway, functions = client("apigatewayv2"), client("lambda")
    api = resources["Api"]
    authorizer = gateway.create_authorizer(
        ApiId=api, Name="Jwt", AuthorizerType="JWT", IdentitySource=["$request.header.Authorization"],
        JwtConfiguration={"Issuer": values["JwtIssuer"], "Audience": [values["JwtAudience"]]},
    )["AuthorizerId"]
    wanted = set()
    for name, resource in template()["Resources"].items():
        if resource["Type"] != "AWS::Serverless::Function":
            continue
        events = resource["Properties"].get("Events", {}).values()
        events = [event["Properties"] for event in events if event["Type"] == "HttpApi"]
        if not events:
            continue
        arn = functions.get_alias(FunctionName=resources[name], Name="live")["AliasArn"]
        integration = gateway.create_integration(
            ApiId=api, IntegrationType="AWS_PROXY", IntegrationUri=arn, PayloadFormatVersion="2.0"
        )["IntegrationId"]
        for event in events:
            key = f"{event['Method']} {event['Path']}"
            open_to_all = event.get("Auth", {}).get("Authorizer") == "NONE"
            auth = {} if open_to_all else {"AuthorizationType": "JWT", "AuthorizerId": authorizer}
            gateway.create_route(ApiId=api, RouteKey=key, Target=f"integrations/{integration}", **auth)
            wanted.add(key)
    there = {route["RouteKey"] for route in gateway.get_routes(ApiId=api, MaxResults="500")["Items"]}
    assert wanted <= there, wanted - there
    port = os.environ["AWS_ENDPOINT_URL"].rsplit(":", 1)[1]
    return f"http://{api}.execute-api.localhost:{port}", len(wanted)


def fire_every_minute():
    """Sets every schedule of the stack to one minute. Returns their names."""
    scheduler = client("scheduler")
    names = []
    for schedule in scheduler.list_schedules()["Schedules"]:
        whole = scheduler.get_schedule(Name=schedule["Name"], GroupName=schedule["GroupName"])
        kept = {key: whole[key] for key in ("Name", "GroupName", "FlexibleTimeWindow", "Target")}
        scheduler.update_schedule(**kept, ScheduleExpression="rate(1 minute)", State="ENABLED")
        names.append(schedule["Name"])
    return names


def mails():
    """Returns the mails that SES has sent."""
    url = os.environ["AWS_ENDPOINT_URL"] + "/_ministack/ses/messages"
    accounts = json.load(urllib.request.urlopen(url, timeout=5))["messages"]
    return [mail for mails in accounts.values() for mail in mails]


def logs():
    """Returns the log lines of the functions, each with its log group."""
    reader = client("logs")
    lines = []
    for group in reader.describe_log_groups()["logGroups"]:
        for page in reader.get_paginator("filter_log_events").paginate(logGroupName=group["logGroupName"]):
            lines += [(group["logGroupName"], line) for event in page["events"] for line in event["message"].splitlines()]
    return lines


def delete():
    """Deletes the stack, and waits until it is gone."""
    client("cloudformation").delete_stack(StackName=STACK)
    client("cloudformation").get_waiter("stack_delete_complete").wait(StackName=STACK, WaiterConfig={"Delay": 1})


def age_subscription(table, workspace):
    """Moves every date of the subscription a month back, and makes it due now, so that the test need not wait."""
    change_subscription(table, workspace, aged)
    make_due(table, workspace)


def make_due(table, workspace):
    """Makes the subscription due now: the index orders by the due date in milliseconds. Ages its open charges, because
    an open charge is otherwise due after two minutes."""
    place = {"index_sk": {"S": f"{int(time.time() * 1000):015}#{workspace}"}}
    change_subscription(table, workspace, lambda item: unanswered(item) | place)


def unanswered(value):
    """Returns the value with every open charge begun ten minutes ago."""
    if not isinstance(value, dict):
        return value
    begun_at = {"S": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() - 600))}
    changed = {name: unanswered(part) for name, part in value.items()}
    charge = changed.get("charge", {}).get("M")
    return changed | {"charge": {"M": charge | {"begun_at": begun_at}}} if charge else changed


def change_subscription(table, workspace, change):
    items = client("dynamodb")
    key = {"pk": {"S": f"subscription#{workspace}"}, "sk": {"S": "subscription"}}
    items.put_item(TableName=table, Item=change(items.get_item(TableName=table, Key=key)["Item"]))


def aged(value):
    if isinstance(value, dict):
        return {name: aged(part) for name, part in value.items()}
    if isinstance(value, list):
        return [aged(part) for part in value]
    if isinstance(value, str) and value[:2] == "20" and value[4:5] == "-" and "T" in value:
        year, month, rest = int(value[:4]), int(value[5:7]), value[7:]
        year, month = (year - 1, 12) if month == 1 else (year, month - 1)
        return f"{year:04}-{month:02}{rest}"
    return value
