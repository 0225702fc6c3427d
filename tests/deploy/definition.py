"""Checks the definition of the API that API Gateway imports: as OpenAPI 3.0, and by API Gateway's own rules for HTTP APIs.

The rules are those of AWS's pages "Working with OpenAPI definitions for HTTP APIs" and "Quotas for HTTP APIs".
"""

import json
import re
from collections import Counter

from openapi_spec_validator import OpenAPIV30SpecValidator

from expand import expanded, of_type, source


def plain(value):
    """Replaces each intrinsic function by the text that it stands for."""
    if isinstance(value, dict) and len(value) == 1 and (next(iter(value)) == "Ref" or next(iter(value)).startswith("Fn::")):
        return str(next(iter(value.values())))
    if isinstance(value, dict):
        return {name: plain(part) for name, part in value.items()}
    return [plain(part) for part in value] if isinstance(value, list) else value


def faults(api):
    """Returns what API Gateway would refuse, or warn of."""
    body = plain(api["Body"])
    schemes = body["components"]["securitySchemes"]
    for scheme in schemes.values():
        # AWS documents a JWT authorizer as OAuth 2 without flows, which OpenAPI requires.
        scheme.setdefault("flows", {})
    found = [error.message for error in OpenAPIV30SpecValidator(body).iter_errors()]
    for name, scheme in schemes.items():
        authorizer = scheme.get("x-amazon-apigateway-authorizer", {})
        if authorizer.get("type") != "jwt" or not {"issuer", "audience"} <= set(authorizer.get("jwtConfiguration", {})):
            found.append(f"{name} is no JWT authorizer")
    routes = [(path, method, it) for path, methods in body["paths"].items() for method, it in methods.items()]
    for path, method, operation in routes:
        where, integration = f"{method} {path}", operation.get("x-amazon-apigateway-integration", {})
        if integration.get("type") != "aws_proxy" or integration.get("payloadFormatVersion") != "2.0":
            found.append(f"{where} has no integration with a function")
        if not all(name in schemes for need in operation.get("security", []) for name in need if name != "NONE"):
            found.append(f"{where} names an unknown authorizer")
        if not re.fullmatch(r"(/([\w.-]+|{\w+\+?}))+", path):
            found.append(f"{where} is no path that API Gateway has")
        declared = Counter(it["name"] for it in operation.get("parameters", []) if it["in"] == "path" and "schema" in it)
        if declared != Counter(re.findall(r"{(\w+)\+?}", path)):
            found.append(f"{where} declares other path parameters than it has")
    if len(routes) > 300 or len(json.dumps(body)) > 6_000_000:
        found.append("the definition is too large")
    return found, {(path, method) for path, method, _ in routes}


def policy_sizes(template):
    """Returns the size of each alias's policy: a statement for each route. Lambda allows 20,480 bytes."""
    sizes, stack = Counter(), "ai-credits-production"
    for name, permission in of_type(template, "AWS::Lambda::Permission").items():
        alias = permission["Properties"]["FunctionName"]["Ref"]
        arn = f"arn:aws:lambda:ap-southeast-1:123456789012:function:{stack}-{alias.replace('Aliaslive', '-ABCDEFGHIJKL:live')}"
        source = permission["Properties"].get("SourceArn", {})
        source = source["Fn::Sub"][0] if isinstance(source.get("Fn::Sub"), list) else "x" * 90
        source = re.sub(r"\${[\w:]+}", "ap-southeast-1", source)
        statement = {
            "Sid": f"{stack}-{name}-ABCDEFGHIJKL", "Effect": "Allow", "Principal": {"Service": permission["Properties"]["Principal"]},
            "Action": "lambda:InvokeFunction", "Resource": arn, "Condition": {"ArnLike": {"AWS:SourceArn": source}},
        }
        sizes[alias] += len(json.dumps(statement, separators=(",", ":"))) + 1
    return sizes


def main():
    template = expanded()
    sizes = policy_sizes(template)
    assert max(sizes.values()) < 20_480, f"a function has too many routes for its policy: {sizes}"
    found, routes = faults(template["Resources"]["Api"]["Properties"])
    functions = of_type(source(), "AWS::Serverless::Function").values()
    events = [event["Properties"] for it in functions for event in it["Properties"]["Events"].values() if event["Type"] == "HttpApi"]
    assert routes == {(event["Path"], event["Method"].lower()) for event in events}, "the definition has other routes"
    assert not found, "\n".join(found)
    # A warning of the import must not fail a deployment: API Gateway may add warnings at any time.
    assert not template["Resources"]["Api"]["Properties"].get("FailOnWarnings")
    print(f"API Gateway's definition: {len(routes)} routes, valid as OpenAPI 3.0 and by its own rules;"
          f" the largest policy of an alias has {max(sizes.values())} bytes.")


if __name__ == "__main__":
    main()
