"""Prints the template as CloudFormation gets it, with SAM's resources expanded. Checks of policies need this form."""

import json
from unittest import mock

from samtranslator.translator.transform import transform
from samtranslator.yaml_helper import yaml_parse

PARAMETERS = {
    "Stage": "prod", "JwtIssuer": "https://issuer.example", "JwtAudience": "ai-credits",
    "MailFrom": "credits@hub.example", "Architecture": "arm64",
}


def source():
    with open("template.yaml", encoding="utf-8") as file:
        return yaml_parse(file.read())


def expanded():
    """Returns the template as CloudFormation gets it, with the S3 addresses that `sam package` would insert."""
    template = source()
    template["Globals"]["Function"]["CodeUri"] = "s3://deploys/code"
    template["Resources"]["Operations"]["Properties"]["Location"] = "https://deploys.s3.amazonaws.com/operations.yaml"
    with mock.patch("boto3.session.Session.region_name", "eu-west-1"):
        return transform(template, PARAMETERS, mock.Mock(load=lambda: {}))


if __name__ == "__main__":
    print(json.dumps(expanded(), indent=1, default=str))
