//! Tests of agreements: what is granted, taken back and invoiced when they begin, change and end (M8).
#![allow(
    clippy::arithmetic_side_effects,
    clippy::unwrap_used,
    reason = "tests may calculate and unwrap; the code under test may not"
)]

use std::collections::BTreeMap;

use credits_core::agreement::{
    Agreement, AgreementState, AgreementStep, Commitment, Invoicing, OtherCurrency, Priced,
};
use credits_core::month::Month;
use credits_core::portion::Portion;
use credits_core::price::Price;
use jiff::Timestamp;

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn month(text: &str) -> Month {
    text.parse().unwrap()
}

fn commitment() -> Commitment {
    let price = Price { amount_minor: 50_000, currency: "USD".parse().unwrap() };
    Commitment { monthly_credits: "5000".parse().unwrap(), price }
}

fn invoicing(currency: &str) -> Invoicing {
    Invoicing { price_per_credit_micros: 8_333, currency: currency.parse().unwrap() }
}

/// Returns a portion of a whole month.
fn whole(of: &str, number: u64) -> Portion {
    Portion::from(1, month(of), commitment(), number)
}

fn agreement() -> Agreement {
    Agreement {
        credit_limit: "1000".parse().unwrap(),
        commitment: Some(commitment()),
        invoicing: Some(invoicing("USD")),
    }
}

/// Returns the standing after the agreement at an instant.
fn standing(now: &str) -> AgreementState {
    AgreementState::begun(at(now)).agreed(&agreement(), at(now)).unwrap()
}

/// Carries out each step that is due at an instant except invoices, and returns the steps as text.
fn carry_out(standing: &mut AgreementState, now: &str) -> Vec<String> {
    let mut done = Vec::new();
    loop {
        match standing.step(at(now)) {
            AgreementStep::Grant(month, portion) => {
                let credits = portion.granted(month).unwrap();
                done.push(format!("grant {month} from {}: {credits}", portion.first_day));
                *standing = standing.with_grant(month, portion);
            }
            AgreementStep::TakeBack(month, portion) => {
                done.push(format!("take back {month} after {}", portion.last_day));
                *standing = standing.with_taken_back(month, portion.number);
            }
            AgreementStep::Invoice(_) | AgreementStep::Wait => return done,
        }
    }
}

#[test]
fn m08_commitment_is_granted_at_once_then_ahead_of_each_month() {
    let mut standing = standing("2026-11-01T00:00:00Z");
    assert_eq!(standing.next_due(), Some(at("2026-11-01T00:00:00Z")));
    assert_eq!(carry_out(&mut standing, "2026-11-01T00:00:00Z"), ["grant 2026-11 from 1: 5000"]);
    assert_eq!(standing.next_due(), Some(at("2026-11-30T23:00:00Z")));
    assert_eq!(standing.step(at("2026-11-30T22:59:59Z")), AgreementStep::Wait);
    assert_eq!(carry_out(&mut standing, "2026-11-30T23:00:00Z"), ["grant 2026-12 from 1: 5000"]);
    assert_eq!(standing.next_due(), Some(at("2026-12-01T00:00:00Z")));
    assert_eq!(standing.step(at("2026-12-01T00:00:00Z")), AgreementStep::Invoice(month("2026-11")));
    let standing = standing.after_invoice(month("2026-11"));
    assert_eq!((standing.step(at("2026-12-01T00:00:00Z")), standing.invoices), (AgreementStep::Wait, 1));
}

#[test]
fn m08_commitment_starts_on_the_day_of_the_agreement() {
    let mut standing = standing("2026-11-21T23:59:59Z");
    let granted = ["grant 2026-11 from 21: 1666.666667"];
    assert_eq!(carry_out(&mut standing, "2026-11-25T00:00:00Z"), granted, "the sweep may run later");
    assert_eq!(carry_out(&mut standing, "2026-11-30T23:30:00Z"), ["grant 2026-12 from 1: 5000"]);
}

#[test]
fn m08_end_in_the_last_hour_withdraws_the_next_month() {
    for leaves in [true, false] {
        let now = "2026-11-30T23:40:00Z";
        let mut standing = standing("2026-11-01T00:00:00Z");
        carry_out(&mut standing, "2026-11-30T23:05:00Z");
        assert_eq!(standing.portions.len(), 2, "the next month is granted ahead");
        let without = Agreement { commitment: None, ..agreement() };
        standing = if leaves { standing.ended(at(now)) } else { standing.agreed(&without, at(now)).unwrap() };
        assert!(standing.next_due() < Some(at(now)), "it is due at once");
        assert_eq!(carry_out(&mut standing, now), ["take back 2026-12 after 0"]);
        assert_eq!(
            standing.portions[&month("2026-11")],
            [whole("2026-11", 1)],
            "an end on the last day keeps the whole month"
        );
        assert_eq!(standing.step(at("2026-12-01T00:00:00Z")), AgreementStep::Invoice(month("2026-11")));
        let standing = standing.after_invoice(month("2026-11"));
        assert_eq!(
            (standing.step(at("2026-12-01T00:00:00Z")), standing.portions.len()),
            (AgreementStep::Wait, 0)
        );
    }
}

#[test]
fn m08_new_terms_in_the_last_hour_replace_the_next_grant() {
    let price = Price { amount_minor: 60_000, ..commitment().price };
    for (terms, credits) in [
        (Commitment { monthly_credits: "7000".parse().unwrap(), ..commitment() }, "7000"),
        (Commitment { price, ..commitment() }, "5000"),
    ] {
        let mut standing = standing("2026-11-01T00:00:00Z");
        carry_out(&mut standing, "2026-11-30T23:05:00Z");
        let changed = Agreement { commitment: Some(terms.clone()), ..agreement() };
        standing = standing.agreed(&changed, at("2026-11-30T23:40:00Z")).unwrap();
        let done = ["take back 2026-12 after 0".to_owned(), format!("grant 2026-12 from 1: {credits}")];
        assert_eq!(carry_out(&mut standing, "2026-11-30T23:40:00Z"), done);
        assert_eq!(standing.portions[&month("2026-11")], [whole("2026-11", 1)], "this month does not change");
        assert_eq!(standing.portions[&month("2026-12")], [Portion::from(1, month("2026-12"), terms, 3)]);
    }
}

#[test]
fn m08_restarted_commitment_counts_no_day_twice() {
    let mut standing = standing("2026-11-01T00:00:00Z");
    carry_out(&mut standing, "2026-11-01T00:00:00Z");
    standing = standing.ended(at("2026-11-10T12:00:00Z"));
    assert_eq!(carry_out(&mut standing, "2026-11-10T12:00:00Z"), ["take back 2026-11 after 10"]);
    standing = standing.agreed(&agreement(), at("2026-11-10T13:00:00Z")).unwrap();
    assert_eq!(carry_out(&mut standing, "2026-11-10T13:00:00Z"), ["grant 2026-11 from 11: 3333.333334"]);
    standing = standing.ended(at("2026-11-10T14:00:00Z"));
    standing = standing.agreed(&agreement(), at("2026-11-20T00:00:00Z")).unwrap();
    let done = ["take back 2026-11 after 11", "grant 2026-11 from 20: 1833.333334"];
    assert_eq!(carry_out(&mut standing, "2026-11-20T00:00:00Z"), done);
    let days: u64 = standing.portions_of(month("2026-11")).map(|it| it.last_day - it.first_day + 1).sum();
    assert_eq!((days, standing.ends), (22, false));
    // After an end on the last day, no day of the month is left to grant.
    let mut last = standing.ended(at("2026-11-30T23:40:00Z"));
    carry_out(&mut last, "2026-11-30T23:40:00Z");
    last = last.agreed(&agreement(), at("2026-11-30T23:50:00Z")).unwrap();
    assert_eq!(carry_out(&mut last, "2026-11-30T23:50:00Z"), ["grant 2026-12 from 1: 5000"]);
}

#[test]
fn m08_end_just_after_a_month_began_belongs_to_that_month() {
    let mut standing = standing("2026-11-01T00:00:00Z");
    carry_out(&mut standing, "2026-11-30T23:05:00Z");
    let now = "2026-12-01T00:00:01Z";
    assert_eq!(
        standing.step(at(now)),
        AgreementStep::Invoice(month("2026-11")),
        "the ended month is invoiced first"
    );
    standing = standing.after_invoice(month("2026-11")).ended(at(now));
    assert_eq!(carry_out(&mut standing, now), ["take back 2026-12 after 1"]);
    assert_eq!(standing.step(at("2027-01-01T00:00:00Z")), AgreementStep::Invoice(month("2026-12")));
}

#[test]
fn m08_late_take_back_keeps_the_day_of_the_end() {
    let mut standing = standing("2026-11-01T00:00:00Z");
    carry_out(&mut standing, "2026-11-01T00:00:00Z");
    standing = standing.ended(at("2026-11-10T12:00:00Z"));
    // After a crash, a sweep carries out the step weeks later.
    let later = at("2026-12-05T00:00:00Z");
    assert!(matches!(standing.step(later), AgreementStep::TakeBack(_, portion) if portion.last_day == 10));
    assert_eq!(standing.next_due(), Some(at("2026-11-01T00:00:00Z")));
}

#[test]
fn m08_invoice_lines_add_up_to_the_total() {
    let november = month("2026-11");
    let standing = standing("2026-11-01T00:00:00Z").with_grant(november, whole("2026-11", 1));
    let used: BTreeMap<_, _> = [("a", "0.5"), ("b", "0.7"), ("c", "1.000001")]
        .map(|(operation, credits)| (operation.to_owned(), credits.parse().unwrap()))
        .into();
    let issued = at("2026-12-01T00:05:00Z");
    let invoice = standing.invoice(november, &BTreeMap::new(), &used, issued).unwrap().unwrap();
    let amounts: Vec<u64> = invoice.lines.iter().map(|line| line.amount_minor).collect();
    // 2.200001 credits at 0.8333 cents each cost 1.83 cents.
    assert_eq!((amounts, invoice.total.amount_minor), (vec![50_000, 0, 1, 1], 50_002));
    assert_eq!((invoice.invoice_id.as_str(), invoice.number), ("inv_2026-11", None));
}

#[test]
fn m08_each_portion_of_a_month_is_a_line_of_its_invoice() {
    let november = month("2026-11");
    let mut standing = standing("2026-11-01T00:00:00Z");
    carry_out(&mut standing, "2026-11-01T00:00:00Z");
    standing = standing.ended(at("2026-11-10T12:00:00Z")).with_taken_back(november, 1);
    standing = standing.agreed(&agreement(), at("2026-11-16T00:00:00Z")).unwrap();
    carry_out(&mut standing, "2026-11-16T00:00:00Z");
    let taken_back = [(1, "3333.333333".parse().unwrap())].into();
    let issued = at("2026-12-01T00:05:00Z");
    let invoice = standing.invoice(november, &taken_back, &BTreeMap::new(), issued).unwrap().unwrap();
    let lines: Vec<String> = invoice
        .lines
        .iter()
        .map(|it| format!("{} {} {}", it.description, it.credits, it.amount_minor))
        .collect();
    assert_eq!(
        lines,
        [
            "Monthly commitment, days 1 to 10 of 30 1666.666667 16667",
            "Monthly commitment, days 16 to 30 of 30 2500 25000"
        ]
    );
}

#[test]
fn m08_month_without_commitment_or_debt_has_no_invoice() {
    let standing = standing("2026-11-23T12:00:00Z");
    let (november, none) = (month("2026-11"), BTreeMap::new());
    assert_eq!(standing.invoice(november, &none, &BTreeMap::new(), at("2026-12-01T00:05:00Z")), Ok(None));
    let ended = standing.ended(at("2026-11-23T12:00:00Z")).after_month(november);
    assert_eq!((ended.next_due(), ended.step(at("2027-12-01T00:05:00Z"))), (None, AgreementStep::Wait));
}

/// The workspace still owes the open month. It has no credit limit and no commitment any more.
#[test]
fn m08_leaving_enterprise_keeps_only_the_open_month() {
    let left = standing("2026-11-23T12:00:00Z").ended(at("2026-11-23T13:00:00Z"));
    assert_eq!(left.agreement, Agreement { invoicing: Some(invoicing("USD")), ..Agreement::none() });
    assert!(left.ends);
    assert_eq!(left.step(at("2026-12-01T00:00:00Z")), AgreementStep::Invoice(month("2026-11")));
}

#[test]
fn m08_month_is_invoiced_while_anything_is_agreed_or_owed() {
    let (november, end) = (month("2026-11"), at("2026-12-01T00:00:00Z"));
    let granted = standing("2026-11-01T00:00:00Z").with_grant(november, whole("2026-11", 1));
    let of = |commitment, invoicing| {
        let agreement = Agreement { commitment, invoicing, ..Agreement::none() };
        AgreementState { agreement, ..granted.clone() }
    };
    let owed = of(None, None);
    assert_eq!((owed.step(end), owed.next_due()), (AgreementStep::Invoice(november), Some(end)));
    let used = of(None, Some(invoicing("USD"))).after_invoice(november);
    assert_eq!(used.next_due(), Some(at("2027-01-01T00:00:00Z")));
    let committed = of(Some(commitment()), None).after_invoice(november);
    assert_eq!(committed.step(at("2027-01-01T00:00:00Z")), AgreementStep::Invoice(month("2026-12")));
    let nothing = owed.after_invoice(november);
    assert_eq!((nothing.step(at("2027-01-01T00:00:00Z")), nothing.next_due()), (AgreementStep::Wait, None));
}

#[test]
fn m08_first_priced_terms_begin_with_the_current_month() {
    let limit = Agreement { credit_limit: "500".parse().unwrap(), ..Agreement::none() };
    let limited =
        AgreementState::begun(at("2026-08-23T12:00:00Z")).agreed(&limit, at("2026-08-23T12:00:00Z")).unwrap();
    assert_eq!(limited.next_due(), None);
    let invoiced = limited.agreed(&agreement(), at("2026-11-23T12:00:00Z")).unwrap();
    assert_eq!(invoiced.open, month("2026-11"));
    // A new agreement leaves the open month unchanged while an earlier one is in force.
    assert_eq!(invoiced.agreed(&agreement(), at("2026-12-01T00:00:01Z")).unwrap().open, invoiced.open);
    let over = invoiced.ended(at("2026-11-30T23:59:58Z")).after_invoice(invoiced.open);
    let back = over.agreed(&limit, at("2026-11-30T23:59:59Z")).unwrap();
    assert_eq!((back.open, back.ends), (month("2026-12"), false));
}

#[test]
fn m08_granted_commitment_fixes_the_currency_of_the_invoice() {
    let (november, now) = (month("2026-11"), at("2026-11-23T12:00:00Z"));
    let standing = standing("2026-11-23T12:00:00Z").with_grant(november, whole("2026-11", 1));
    let owed = "USD".parse().unwrap();
    let used = Agreement { invoicing: Some(invoicing("EUR")), ..Agreement::none() };
    assert_eq!(standing.agreed(&used, now), Err(OtherCurrency { owed, refused: Priced::Invoicing }));
    assert!(standing.agreed(&Agreement::none(), now).is_ok());
    assert!(standing.after_invoice(november).agreed(&used, now).is_ok());
    // A commitment that ends and restarts within the month is on the same invoice.
    let price = Price { currency: "EUR".parse().unwrap(), ..commitment().price };
    let euros = Commitment { price, ..commitment() };
    let euros = Agreement { commitment: Some(euros), ..Agreement::none() };
    let refused = OtherCurrency { owed, refused: Priced::Commitment };
    assert_eq!(standing.ended(now).agreed(&euros, now), Err(refused));
    assert!(standing.agreed(&euros, now).is_ok(), "new terms apply from the next month");
}

#[test]
fn standing_stored_by_an_older_version_is_read() {
    let stored = serde_json::json!({
        "agreement": agreement(), "open": "2026-11", "invoices": 3, "ends": false,
        "granted": { "2026-11": commitment(), "2026-12": commitment() },
    });
    let mut read: AgreementState = serde_json::from_value(stored).unwrap();
    assert_eq!(read.portions[&month("2026-11")], [whole("2026-11", 0)]);
    assert_eq!((read.step(at("2026-11-30T23:30:00Z")), read.invoices), (AgreementStep::Wait, 3));
    read = read.ended(at("2026-11-30T23:30:00Z"));
    assert_eq!(carry_out(&mut read, "2026-11-30T23:30:00Z"), ["take back 2026-12 after 0"]);
    assert_eq!(serde_json::from_value::<AgreementState>(serde_json::to_value(&read).unwrap()).unwrap(), read);
}
