"""A debit as most write it in Python: Powertools' idempotency around two calls of boto3."""

import os

import boto3
from aws_lambda_powertools.utilities.idempotency import DynamoDBPersistenceLayer, IdempotencyConfig, idempotent_function

TABLE = os.environ["TABLE"]
METERED = "PEERS_METER" in os.environ

client = boto3.client("dynamodb")
spent = {"requests": 0, "write_units": 0.0}
config = IdempotencyConfig(
    event_key_jmespath="[workspace, key]", payload_validation_jmespath="credits", raise_on_no_idempotency_key=True
)
# Where there is a sort key, the hash of the key is in it, and the partition key is the same for all.
records = DynamoDBPersistenceLayer(
    TABLE, key_attr="pk", static_pk_value="peers#idempotency", sort_key_attr="sk", boto3_client=client
)


class Refused(Exception):
    """The balance doesn't cover it. Powertools forgets a key whose work raises, so that it may be tried again."""


@idempotent_function(data_keyword_argument="order", config=config, persistence_store=records)
def debit(order):
    workspace, key, credits = order["workspace"], order["key"], {"N": order["credits"]}
    try:
        balance = client.update_item(
            TableName=TABLE,
            Key={"pk": {"S": f"peers#balance#{workspace}"}, "sk": {"S": "balance"}},
            UpdateExpression="SET spendable = spendable - :credits",
            ConditionExpression="spendable >= :credits",
            ExpressionAttributeValues={":credits": credits},
            ReturnValues="UPDATED_NEW",
        )["Attributes"]["spendable"]["N"]
    except client.exceptions.ConditionalCheckFailedException as failed:
        raise Refused from failed
    entry = {"pk": {"S": f"peers#entry#{workspace}#{key}"}, "sk": {"S": "entry"}, "credits": credits}
    client.put_item(TableName=TABLE, Item=entry)
    return {"key": key, "credits": order["credits"], "balance": balance}


def handler(event, context):
    spent.update(requests=0, write_units=0.0)
    config.register_lambda_context(context)
    try:
        answer = debit(order=event)
    except Refused:
        answer = {"refused": True}
    return answer | {"spent": spent} if METERED else answer


def ask_for_units(params, **_):
    params["ReturnConsumedCapacity"] = "TOTAL"


def count_request(**_):
    spent["requests"] += 1


def count_units(parsed, **_):
    spent["write_units"] += parsed["ConsumedCapacity"]["CapacityUnits"]


if METERED:
    # On the client that Powertools uses too. Before each sending: attempts that botocore repeats are requests as well.
    client.meta.events.register("before-send.dynamodb", count_request)
    for write in ("PutItem", "UpdateItem", "DeleteItem"):
        client.meta.events.register(f"before-parameter-build.dynamodb.{write}", ask_for_units)
        client.meta.events.register(f"after-call.dynamodb.{write}", count_units)
