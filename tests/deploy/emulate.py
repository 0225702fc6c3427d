"""Runs the emulator with enforced policies (AUTH), and adds what it lacks.

CodeDeploy's resources deploy nothing here: an alias moves to a new version at once. The bus's archive keeps nothing. An
alarm on several metrics watches the first. Sending a mail requires permission for the sender's identity, as in AWS, and
not for `*`.
"""

import json
from email.utils import parseaddr

from ministack.app import main
from ministack.core import iam_actions
from ministack.services.cloudformation.provisioners import _RESOURCE_HANDLERS

for kind in ("CodeDeploy::Application", "CodeDeploy::DeploymentGroup", "Events::Archive"):
    _RESOURCE_HANDLERS[f"AWS::{kind}"] = {
        "create": lambda logical_id, properties, stack: (f"{stack}-{logical_id}", {}),
        "delete": lambda *_: None,
    }

alarm = _RESOURCE_HANDLERS["AWS::CloudWatch::Alarm"]
create_alarm = alarm["create"]


def create_simple_alarm(logical_id, properties, stack):
    first = next((metric["MetricStat"] for metric in properties.get("Metrics", []) if "MetricStat" in metric), None)
    if first:
        properties = {name: value for name, value in properties.items() if name != "Metrics"}
        properties |= {"Statistic": first["Stat"], "Period": first["Period"], **first["Metric"]}
    return create_alarm(logical_id, properties, stack)


alarm["create"] = create_simple_alarm
resource_of_mail = iam_actions._ses_v2_resource_arn


def resource_of_sent_mail(method, path, body, region, account_id):
    if path.endswith("/outbound-emails"):
        return f"arn:aws:ses:{region}:{account_id}:identity/{parseaddr(json.loads(body)['FromEmailAddress'])[1]}"
    return resource_of_mail(method, path, body, region, account_id)


iam_actions._ses_v2_resource_arn = resource_of_sent_mail

main()
