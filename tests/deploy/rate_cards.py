"""Checks which catalogues infra/deploy refuses because their rate cards would change prices of the past."""

import json
import re
from datetime import datetime, timezone
from unittest import mock

from botocore.exceptions import ClientError

from expand import deploy, expanded

NOW = datetime(2027, 3, 15, 12, tzinfo=timezone.utc)


def card(version, starts=None, rate="1"):
    """Returns a rate card with one operation."""
    dated = {"effective_from": starts} if starts else {}
    return {"version": version} | dated | {"operations": [{"operation": "generate", "base": rate}], "models": []}


FEBRUARY, MARCH = card("v2", "2027-02-01T00:00:00Z"), card("v3", "2027-03-01T00:00:00Z", "2")
APRIL, MAY = card("v4", "2027-04-01T00:00:00Z", "3"), card("v5", "2027-05-01T00:00:00Z", "4")


def text_of(*cards):
    """Returns a catalogue in which each card's version is on a line of its own."""
    content = {"rate_card": cards[0]} if "effective_from" not in cards[0] else {"rate_cards": cards}
    return json.dumps({"packs": []} | content, indent=2)


def found(deployed, *cards):
    """Returns the reasons without the file, for a stack with other cards, or without any."""
    known = None if deployed is None else json.loads(deploy.summary_of(deployed))
    text = text_of(*cards)
    reasons = deploy.changes_of_the_past(text, known, NOW)
    for reason in reasons:
        line = int(re.match(r"infra/catalogue\.json:(\d+): ", reason)[1])
        assert '"version"' in text.splitlines()[line - 1], reason
    return [reason.split(": ", 1)[1] for reason in reasons]


def check_allowed():
    year_before = card("v1", "2026-01-01T00:00:00Z")
    for deployed, cards in [
        (None, [FEBRUARY, MARCH]),
        ([FEBRUARY, MARCH, APRIL], [FEBRUARY, MARCH, APRIL]),
        ([FEBRUARY, MARCH], [FEBRUARY, MARCH, APRIL, MAY]),
        # An old card is removed.
        ([FEBRUARY, MARCH], [MARCH]),
        # A card that prices no call yet is changed, postponed, and removed.
        ([MARCH, APRIL], [MARCH, card("v4", "2027-04-01T00:00:00Z", "9")]),
        ([MARCH, APRIL], [MARCH, card("v4", "2027-06-01T00:00:00Z", "3")]),
        ([MARCH, APRIL], [MARCH]),
        # The same instant and the same content, written in another way.
        ([MARCH], [dict(reversed(card("v3", "2027-03-01T01:00:00+01:00", "2").items()))]),
        # The single card of a stack gets a date.
        ([card("v1")], [year_before, APRIL]),
        # A single card may change in any way.
        ([card("v1")], [card("v1", rate="9")]),
        ([FEBRUARY, MARCH], [card("v9")]),
    ]:
        assert found(deployed, *cards) == [], found(deployed, *cards)


def check_refused():
    for deployed, cards, reason in [
        ([FEBRUARY], [FEBRUARY, MARCH], "a card that starts in the past: v3 is new to the stack"),
        # A card that was to start later.
        ([MARCH, APRIL], [MARCH, card("v4", "2027-03-10T00:00:00Z", "3")], "a card that starts in the past: v4"),
        ([MARCH], [card("v3", "2027-03-01T00:00:00Z", "9")], "the rate card v3 has taken effect, so its content"),
        ([FEBRUARY, MARCH], [card("v2", "2027-02-01T00:00:00Z", "9"), MARCH], "the rate card v2 has taken effect"),
        ([card("v1")], [card("v1", "2026-01-01T00:00:00Z", "9")], "the rate card v1 has taken effect"),
        ([MARCH], [card("v3", "2027-03-02T00:00:00Z", "2")], "the rate card v3 has taken effect, so its effective_from"),
        ([MARCH], [MAY, APRIL], "no rate card is in effect now; the first starts at 2027-04-01T00:00:00Z"),
        (None, [APRIL], "no rate card is in effect now"),
        (None, [MARCH, card("v4", "next month")], "the rate card v4 needs an effective_from"),
        (None, [MARCH, card("v4", "2027-04-01T00:00:00")], "the rate card v4 needs an effective_from"),
        (None, [MARCH, card("v4")], "the rate card v4 needs an effective_from"),
    ]:
        reasons = found(deployed, *cards)
        assert len(reasons) == 1 and reasons[0].startswith(reason), (reason, reasons)
    assert len(found([FEBRUARY], MARCH, card("v2", "2027-02-01T00:00:00Z", "9"))) == 2


def check_unreadable():
    many = [card(f"2027-{month:02}-{day:02}", f"2027-{month:02}-{day:02}T00:00:00Z") for month in (1, 2) for day in range(1, 11)]
    for text, start in [
        ('{\n"packs": [],,\n}', "infra/catalogue.json:2: not JSON"),
        ("{}", "infra/catalogue.json:1: the catalogue must have either"),
        (json.dumps({"rate_card": card("v1"), "rate_cards": [MARCH]}), "infra/catalogue.json:1: the catalogue must have either"),
        ('{"rate_cards": [{"operations": []}]}', "infra/catalogue.json:1: the catalogue must have either"),
        (text_of(*many), "infra/catalogue.json:1: the stack's output RateCards has more than 1024 bytes"),
    ]:
        try:
            raise AssertionError(deploy.changes_of_the_past(text, None, NOW))
        except deploy.RefusedCatalogue as error:
            assert str(error).startswith(start), error
    # A card a month for a year and a half.
    assert len(deploy.summary_of(many[:19])) <= 1024


def check_output():
    """Checks that the command reads on the next deployment what it has deployed."""
    value = expanded()["Outputs"]["RateCards"]["Value"]
    cards = deploy.cards_of(json.loads(deploy.CATALOGUE.read_text()))
    assert json.loads(value) == {it["version"]: [it.get("effective_from"), deploy.digest_of(it)] for it in cards}, value
    described = lambda *outputs: mock.Mock(describe_stacks=lambda StackName: {"Stacks": [{"Outputs": [*outputs]}]})
    output = {"OutputKey": "RateCards", "OutputValue": value}
    assert deploy.deployed_cards(described(output), "stack") == json.loads(value)
    assert deploy.deployed_cards(described({"OutputKey": "ApiUrl", "OutputValue": "https://api"}), "stack") is None
    unknown = ClientError({"Error": {"Code": "ValidationError", "Message": "Stack with id stack does not exist"}}, "DescribeStacks")
    assert deploy.deployed_cards(mock.Mock(describe_stacks=mock.Mock(side_effect=unknown)), "stack") is None
    denied = ClientError({"Error": {"Code": "AccessDenied", "Message": "not authorized"}}, "DescribeStacks")
    try:
        raise AssertionError(deploy.deployed_cards(mock.Mock(describe_stacks=mock.Mock(side_effect=denied)), "stack"))
    except ClientError:
        pass


def main():
    check_allowed()
    check_refused()
    check_unreadable()
    check_output()
    print("Rate cards that change prices of the past are refused with their line; the stack's output has what to compare.")


if __name__ == "__main__":
    main()
