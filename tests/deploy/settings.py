"""Checks settings of the template that only AWS would show to be wrong: what survives, what starves, what costs."""

from expand import of_type, settled

DAY = 24 * 3600


def only(template, kind):
    (name, resource), = of_type(template, kind).items()
    return resource


def check_what_survives(dev, prod):
    for template in (dev, prod):
        kept = [only(template, "AWS::DynamoDB::Table"), *of_type(template, "AWS::Logs::LogGroup").values()]
        # Retain would also keep what a failed first deployment leaves.
        assert {it["DeletionPolicy"] for it in kept} == {"RetainExceptOnCreate"}
        assert {it["UpdateReplacePolicy"] for it in kept} == {"Retain"}
    assert only(prod, "AWS::DynamoDB::Table")["Properties"]["DeletionProtectionEnabled"] is True
    assert prod["Resources"]["ApiLogs"]["Properties"]["LogGroupName"]["Fn::Sub"][0].startswith("/aws/vendedlogs/")
    assert only(prod, "AWS::Events::Archive")["Properties"]["RetentionDays"] >= 90
    assert not of_type(prod, "AWS::Backup::BackupPlan")
    vault = "arn:aws:backup:eu-west-1:210987654321:backup-vault:copies"
    rule = only(settled(BackupVaultArn=vault), "AWS::Backup::BackupPlan")["Properties"]["BackupPlan"]["BackupPlanRule"][0]
    assert rule["CopyActions"][0]["DestinationBackupVaultArn"] == vault


def check_secrets(dev):
    """Checks that no two stages share a secret, and that each function's role names the one that it reads."""
    named = [
        value["Fn::Sub"] for it in of_type(dev, "AWS::Lambda::Function").values()
        for name, value in it["Properties"]["Environment"]["Variables"].items() if name.endswith("_PARAMETER")
    ]
    assert len(named) == 3 and all(name.startswith("${SecretsPath}/${Stage}/") for name in named), named


def check_concurrency(dev):
    mapping = only(dev, "AWS::Lambda::EventSourceMapping")["Properties"]
    assert mapping["ParallelizationFactor"] <= 2 and mapping["MaximumBatchingWindowInSeconds"] <= 10
    # Records go to the dead-letter queue before the stream drops them after a day.
    assert mapping["MaximumRetryAttempts"] == -1 and DAY / 2 < mapping["MaximumRecordAgeInSeconds"] < DAY
    assert "Destination" in mapping["DestinationConfig"]["OnFailure"]
    reserved = lambda template: template["Resources"]["DebitFunction"]["Properties"].get("ReservedConcurrentExecutions")
    assert reserved(dev) is None and reserved(settled(DebitConcurrency="200")) == "200"


def check_table(dev):
    def warm(template):
        table = only(template, "AWS::DynamoDB::Table")["Properties"]
        return [it.get("WarmThroughput", {}).get("WriteUnitsPerSecond") for it in (table, *table["GlobalSecondaryIndexes"])]
    assert warm(dev) == [None, None] and warm(settled(WarmWriteUnits="20000")) == ["20000", "20000"]


def check_costs(dev, prod):
    for template in (dev, prod):
        functions = [it["Properties"] for it in of_type(template, "AWS::Lambda::Function").values()]
        assert {it["TracingConfig"]["Mode"] for it in functions} == {"PassThrough"}
        assert {it["Architectures"][0] for it in functions} == {"x86_64"}
        assert only(template, "AWS::ApiGatewayV2::Stage")["Properties"]["DefaultRouteSettings"]["DetailedMetricsEnabled"] is False
    assert settled(Tracing="Active")["Resources"]["DebitFunction"]["Properties"]["TracingConfig"]["Mode"] == "Active"


def check_domain(dev):
    assert not of_type(dev, "AWS::ApiGatewayV2::DomainName")
    given = settled(DomainName="credits.hub.example", CertificateArn="arn:aws:acm:eu-west-1:123456789012:certificate/1")
    domain = only(given, "AWS::ApiGatewayV2::DomainName")["Properties"]
    assert domain["DomainName"] == "credits.hub.example" and domain["DomainNameConfigurations"][0]["CertificateArn"].endswith("/1")
    stage, = of_type(given, "AWS::ApiGatewayV2::Stage")
    assert only(given, "AWS::ApiGatewayV2::ApiMapping")["Properties"]["Stage"] == {"Ref": stage}


def main():
    dev, prod = settled(Stage="dev"), settled(Stage="prod")
    check_what_survives(dev, prod)
    check_secrets(dev)
    check_concurrency(dev)
    check_table(dev)
    check_costs(dev, prod)
    check_domain(dev)
    print("Table and logs survive; stages share no secret; the stream starves no debit; nothing is traced unasked.")


if __name__ == "__main__":
    main()
