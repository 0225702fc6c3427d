"""Prints the template as CloudFormation gets it from infra/deploy, with SAM's resources expanded."""

import json
import logging
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from unittest import mock

from samtranslator.translator.transform import transform
from samtranslator.yaml_helper import yaml_parse

# The translator warns of metrics about itself.
logging.disable(logging.WARNING)
# The command has no suffix, so it is no module by itself.
loader = SourceFileLoader("deploy", "infra/deploy")
deploy = module_from_spec(spec_from_loader("deploy", loader))
loader.exec_module(deploy)

PARAMETERS = {
    "Stage": "prod", "JwtIssuer": "https://issuer.example", "JwtAudience": "ai-credits", "MailFrom": "credits@hub.example",
}


def source(path="template.yaml"):
    with open(path, encoding="utf-8") as file:
        return yaml_parse(file.read())


def expanded(template=None, code_of=lambda function: b"", **given):
    """Returns the template as CloudFormation gets it, with the S3 addresses that `sam package` would insert."""
    template = template or source()
    values = deploy.complete(template, PARAMETERS | given)
    deploy.release(template, values, code_of)
    template["Globals"]["Function"]["CodeUri"] = "s3://deploys/code"
    template["Resources"]["Operations"]["Properties"]["Location"] = "https://deploys.s3.amazonaws.com/operations.yaml"
    with mock.patch("boto3.session.Session.region_name", "eu-west-1"):
        return transform(template, values, mock.Mock(load=lambda: {}))


def settled(**given):
    """Returns the template with its parameters, mappings and conditions resolved. What a condition excludes is left out."""
    values = deploy.complete(source(), PARAMETERS | given)
    template = expanded(**given)

    def holds(condition):
        (kind, of), = condition.items()
        if kind == "Condition":
            return holds(template["Conditions"][of])
        return not holds(of[0]) if kind == "Fn::Not" else final(of[0]) == final(of[1])

    def final(value):
        if isinstance(value, list):
            return [part for part in map(final, value) if part != {"Ref": "AWS::NoValue"}]
        if not isinstance(value, dict):
            return value
        kind, of = next(iter(value.items()), (None, None))
        if kind == "Ref" and of in values:
            return values[of]
        if kind == "Fn::FindInMap":
            name, first, second = map(final, of)
            return template["Mappings"][name][first][second]
        if kind == "Fn::If":
            return final(of[1] if holds(template["Conditions"][of[0]]) else of[2])
        parts = {name: final(part) for name, part in value.items()}
        return {name: part for name, part in parts.items() if part != {"Ref": "AWS::NoValue"}}

    there = {name: it for name, it in template["Resources"].items() if "Condition" not in it or holds({"Condition": it["Condition"]})}
    return {"Resources": {name: final(it) for name, it in there.items()}}


def of_type(template, kind):
    """Returns the resources of a type, by logical id."""
    return {name: it for name, it in template["Resources"].items() if it["Type"] == kind}


if __name__ == "__main__":
    print(json.dumps(expanded(), indent=1, default=str))
