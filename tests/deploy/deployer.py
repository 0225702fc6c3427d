"""Checks that the role of infra/deployer.yaml serves each type of resource that a deployment creates, and no other."""

import json
import re

from expand import expanded, of_type, source

# Statements that serve no type by themselves.
BESIDES = {"ReadArtefacts", "Expand", "AttachPolicies", "PassRoles", "FindLogGroups", "KeyOfTheVault"}
# A statement on everything has actions without a narrower resource, or a condition.
ON_EVERYTHING = {"LambdaEventSourceMapping", "ApiGatewayV2Stage", "FindLogGroups", "KeyOfTheVault"}
# CloudFormation creates, changes and deletes. These types are created by an action with another verb.
VERBS = {
    "LambdaVersion": "Publish", "LambdaPermission": "AddPermission", "ApiGatewayV2": "POST", "EventsRule": "PutRule",
    "SQSQueuePolicy": "Set", "LogsMetricFilter": "Put", "CloudWatch": "Put", "LambdaEventInvokeConfig": "Put",
}


def arn_name(policy):
    return (policy if isinstance(policy, str) else policy["Fn::Sub"]).split("/")[-1]


def size(policy):
    """Returns the length of a policy as IAM counts it, with names of a usual length."""
    names = {"Stack": "ai-credits-production", "AWS::Region": "ap-southeast-1", "AWS::AccountId": "123456789012", "AWS::Partition": "aws"}
    text = re.sub(r'\{"Fn::Sub":("[^"]*")\}', r"\1", json.dumps(policy, separators=(",", ":")))
    return len(re.sub(r"\${([\w:]+)}", lambda match: names.get(match[1], "a-bucket-of-artefacts"), text))


def main():
    resources = source("infra/deployer.yaml")["Resources"]
    # IAM allows 10,240 characters of inline policies a role, and 6,144 a managed policy.
    policies = {10_240: resources["StackRole"]["Properties"]["Policies"][0], 6_144: resources["StackPolicy"]["Properties"]}
    statements = {it["Sid"]: it for policy in policies.values() for it in policy["PolicyDocument"]["Statement"]}
    template = expanded()
    created = {it["Type"] for part in (template, source("infra/operations.yaml")) for it in part["Resources"].values()}
    types = {kind.removeprefix("AWS::").replace("::", "") for kind in created}
    assert types == set(statements) - BESIDES, types ^ (set(statements) - BESIDES)
    for name, statement in statements.items():
        assert "*" not in json.dumps(statement["Action"]), name
        assert (statement["Resource"] == "*") == (name in ON_EVERYTHING), name
        verb = next((verb for start, verb in VERBS.items() if name.startswith(start)), "Create")
        verb = "LogDelivery" if name == "ApiGatewayV2Stage" else verb
        assert name in BESIDES or verb in json.dumps(statement["Action"]), f"{name} has no action that creates it"
    roles = of_type(template, "AWS::IAM::Role").values()
    attached = {arn_name(policy) for it in roles for policy in it["Properties"].get("ManagedPolicyArns", [])}
    allowed = {arn_name(policy) for policy in statements["AttachPolicies"]["Condition"]["ArnEquals"]["iam:PolicyARN"]}
    assert attached == allowed, attached ^ allowed
    trusts = json.dumps([it["Properties"]["AssumeRolePolicyDocument"] for it in roles])
    services = set(re.findall(r"\w+\.amazonaws\.com", trusts))
    assert services == set(statements["PassRoles"]["Condition"]["StringEquals"]["iam:PassedToService"]), services
    for most, policy in policies.items():
        assert size(policy["PolicyDocument"]) <= most, f"a policy has more than {most} characters"
    print(f"The deployer's role serves {len(types)} types of resources.")


if __name__ == "__main__":
    main()
