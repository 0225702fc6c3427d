//! The hold's item and the encoding of its captures. A capture adds about 45 bytes. It has to be this short, since each
//! capture costs one write unit for every started KB of the hold.
//!
//! An item without `end` is an open hold. A capture doesn't read the hold, so it can't refer to a position in a table.
//! Instead, `words` maps a short digest, the word, to each text that captures share: the operation with its rate card,
//! its model and the version of the workspace's own prices, and the common part of the consumer. A capture appends two
//! binary elements to `captures`: the digest of its key, and a trace of these fields:
//!
//! | fingerprint | word of the call | word of the consumer | credits | credits added to the hold | uncollected credits | rest of the consumer | metadata |
//! | --- | --- | --- | --- | --- | --- | --- | --- |
//! | 12 bytes | `9aK` | `Q_1` | `2.5` | `+0.5`, or nothing | `-1.2`, or nothing | `,step-7`, or nothing | a line break and JSON, or nothing |
//!
//! Captures written before digests were salted are two texts, with a key of 8 characters and a fingerprint of 4. They
//! are still read, and replays still find them.

use std::collections::HashMap;

use aws_sdk_dynamodb::primitives::Blob;
use aws_sdk_dynamodb::types::{AttributeValue, TransactWriteItem};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use credits_core::batch::PricedCall;
use credits_core::consumer::Consumer;
use credits_core::credits::{Amount, Credits};
use credits_core::hold::{Capture, Hold, HoldStatus, MAX_CAPTURES, Purpose};
use credits_core::hold_posting::Placement;
use credits_core::id::{Id, Name, WorkspaceId};
use credits_core::metadata::Metadata;
use credits_core::rate_card::PriceVersion;
use jiff::Timestamp;

use crate::digest::{Sha256, sha256, sha256_of_each};
use crate::error::Corrupt;
use crate::idempotency::Claim;
use crate::items::{balance_item, consumer_code};
use crate::table::attribute::{Item, Reader, credits, instant, keyed, number, text};
use crate::table::expression::Expression;
use crate::table::keys::{self, INDEX_PK, INDEX_SK, ItemKey, PK};

const CAPTURES: &str = "captures";
const WORDS: &str = "words";
const END: &str = "end";
/// The name of the ledger entry of the captures of a hold that has ended.
const ENTRY: &str = "entry";

/// Bytes of a key's digest, and of a fingerprint: 96 bits each.
const DIGEST_BYTES: usize = 12;
/// Characters of an unsalted digest of a key, which older captures have.
const SHORT_KEY_CHARACTERS: usize = 8;
/// Characters of an unsalted fingerprint, which older captures have.
const SHORT_FINGERPRINT_CHARACTERS: usize = 4;
/// Characters of a word: 18 bits. If a word is taken, another salt gives another word.
const WORD_CHARACTERS: usize = 3;
/// Characters of the hold's id at the end of its due position.
const PLACE_CHARACTERS: usize = 8;
/// Elements of `captures` for each capture.
const ELEMENTS: usize = 2;

/// The encoded call of a trace: the words of the call and of the consumer with their meanings, and the rest of the
/// consumer.
struct Words {
    call: (String, String),
    consumer: (String, String),
    own: String,
    metadata: Metadata,
}

impl Words {
    fn of_capture(capture: &Capture, salt: u8) -> Self {
        let PricedCall { operation, model, consumer, metadata, .. } = &capture.line;
        let call = call_text(operation, model.as_ref(), &capture.priced_by);
        Self::of(call, consumer, metadata, salt)
    }

    fn of_purpose(purpose: &Purpose) -> Self {
        let Purpose { operation, priced_by, consumer, metadata } = purpose;
        let of = |salt| Self::of(call_text(operation, None, priced_by), consumer, metadata, salt);
        let differing = (0..u8::MAX).map(of).find(|words| !words.clash());
        differing.unwrap_or_else(|| of(u8::MAX))
    }

    fn of(call: String, consumer: &Consumer, metadata: &Metadata, salt: u8) -> Self {
        let code = consumer_code::write(consumer);
        let (common, own) = consumer_code::part(&code);
        Self {
            call: (word(&call, salt), call),
            consumer: (word(common, salt), common.to_owned()),
            own: own.to_owned(),
            metadata: metadata.clone(),
        }
    }

    /// Returns the two words, the amounts, the rest of the consumer and the metadata as one text.
    fn around(&self, amounts: &str) -> Result<String, Corrupt> {
        let own = if self.own.is_empty() { String::new() } else { format!(",{}", self.own) };
        let words = format!("{}{}{amounts}{own}", self.call.0, self.consumer.0);
        if self.metadata.is_empty() {
            return Ok(words);
        }
        let metadata = serde_json::to_string(&self.metadata).map_err(|_| Corrupt::Attribute("metadata"))?;
        Ok(format!("{words}\n{metadata}"))
    }

    /// Returns whether the call and the consumer have the same word.
    fn clash(&self) -> bool {
        self.call.0 == self.consumer.0
    }

    /// Returns whether the hold uses one of the words for another meaning.
    fn are_taken(&self, words: &Item) -> bool {
        let taken = |(word, meaning): &(String, String)| {
            words.get(word).is_some_and(|kept| kept.as_s().ok() != Some(meaning))
        };
        taken(&self.call) || taken(&self.consumer)
    }
}

/// Returns the text that a word stands for: operation, rate card, model, and the version of the workspace's own prices.
fn call_text(operation: &Name, model: Option<&Name>, priced_by: &PriceVersion) -> String {
    let model = model.map(ToString::to_string).unwrap_or_default();
    let own = priced_by.pricing.map(|version| format!(",{version}")).unwrap_or_default();
    format!("{operation},{},{model}{own}", priced_by.rate_card)
}

/// Derives the word of a text. Another salt gives another word.
fn word(meaning: &str, salt: u8) -> String {
    digest(&[&[salt], meaning.as_bytes()], WORD_CHARACTERS)
}

fn digest(parts: &[&[u8]], characters: usize) -> String {
    URL_SAFE_NO_PAD.encode(sha256(parts)).chars().take(characters).collect()
}

/// The digests of a caller's claim that a hold stores: one of the key, and one of the key with the request.
///
/// Both are salted with the hold's id, so two keys with the same digest can't be searched for in advance. The
/// fingerprint covers the key too. Two keys with the same digest differ in it, so the second is refused instead of
/// taken for a replay.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct ClaimDigests {
    pub key: String,
    pub fingerprint: String,
}

impl ClaimDigests {
    /// Computes the digests of a capture's claim.
    pub fn of_capture(hold_id: &Id, claim: &Claim) -> Self {
        Self::salted(b"capture", hold_id, claim)
    }

    /// Computes the digests of a settlement's claim. Its last capture must differ from a capture under the same key.
    pub fn of_settlement(hold_id: &Id, claim: &Claim) -> Self {
        Self::salted(b"settle", hold_id, claim)
    }

    /// Computes the unsalted digests of a capture's claim, as older versions wrote them.
    pub fn unsalted(claim: &Claim) -> Self {
        let (key, fingerprint) = (claim.key.as_str().as_bytes(), claim.fingerprint.bytes());
        Self {
            key: digest(&[key], SHORT_KEY_CHARACTERS),
            fingerprint: digest(&[fingerprint], SHORT_FINGERPRINT_CHARACTERS),
        }
    }

    /// Returns whether the capture was written for this claim.
    pub fn are_of(&self, capture: &Capture) -> bool {
        capture.key == self.key && capture.fingerprint == self.fingerprint
    }

    fn salted(call: &[u8], hold_id: &Id, claim: &Claim) -> Self {
        let (hold, key) = (hold_id.as_str().as_bytes(), claim.key.as_str().as_bytes());
        Self {
            key: encoded(sha256_of_each(&[call, hold, key])),
            fingerprint: encoded(sha256_of_each(&[call, hold, key, claim.fingerprint.bytes()])),
        }
    }
}

fn encoded(digest: Sha256) -> String {
    URL_SAFE_NO_PAD.encode(digest.get(..DIGEST_BYTES).unwrap_or_default())
}

fn decoded(digest: &str) -> Result<Vec<u8>, Corrupt> {
    URL_SAFE_NO_PAD.decode(digest).map_err(|_| Corrupt::Attribute(CAPTURES))
}

/// Finds the lowest salt, starting at `from`, with which a capture's words differ from each other and are not taken in
/// the hold. Returns `u8::MAX` if no salt fits.
pub(crate) fn salt_for(capture: &Capture, hold: Option<&Item>, from: u8) -> u8 {
    let words_of = hold.and_then(|hold| hold.get(WORDS)?.as_m().ok());
    let fits = |salt: &u8| {
        let words = Words::of_capture(capture, *salt);
        !words.clash() && !words_of.is_some_and(|known| words.are_taken(known))
    };
    (from..=u8::MAX).find(fits).unwrap_or(u8::MAX)
}

/// Builds the item of a hold that is being placed.
pub(crate) fn item_of(workspace: &WorkspaceId, hold: &Hold) -> Result<Item, Corrupt> {
    let words = Words::of_purpose(&hold.purpose);
    // The end of the id distinguishes holds; its beginning encodes the time.
    let id = hold.hold_id.as_str();
    let place = id.get(id.len().saturating_sub(PLACE_CHARACTERS)..).unwrap_or(id);
    let mut item = keyed(&ItemKey::hold(workspace, &hold.hold_id));
    let known = [words.call.clone(), words.consumer.clone()].map(|(word, meaning)| (word, text(meaning)));
    item.extend(
        [
            (INDEX_PK, text(keys::holds(workspace))),
            (INDEX_SK, text(keys::hold_position(workspace, hold.expires_at, place))),
            ("credits", credits(hold.placement.amount.credits())),
            ("remaining", credits(hold.placement.amount.credits())),
            ("expires_at", instant(hold.expires_at)),
            ("epoch", number(hold.placement.epoch)),
            ("purpose", text(words.around("")?)),
            (WORDS, AttributeValue::M(HashMap::from(known))),
            (CAPTURES, AttributeValue::L(Vec::new())),
        ]
        .map(|(name, value)| (name.to_owned(), value)),
    );
    if let Some(version) = hold.purpose.priced_by.pricing {
        item.insert(balance_item::PRICING.to_owned(), number(version));
    }
    Ok(item)
}

/// Builds the update that captures from a hold.
///
/// Its conditions: the hold is open, has not expired, has room, keeps enough credits, and has no capture under this
/// key, salted or unsalted.
pub(crate) fn capture_write(
    table: &str,
    key: &ItemKey,
    (capture, salt, unsalted): (&Capture, u8, &ClaimDigests),
    now: Timestamp,
) -> Result<TransactWriteItem, Corrupt> {
    let taken = capture.line.amount.credits();
    let room = u64::try_from(MAX_CAPTURES.saturating_mul(ELEMENTS)).unwrap_or(u64::MAX);
    let write = appending(Expression::new(), (capture, salt))?
        .add("remaining", credits(taken.negated()))
        .when_absent(END)
        .when("expires_at", ">", instant(now))
        .when("remaining", ">=", credits(taken))
        .when_not_in(CAPTURES, text(&unsalted.key))
        .when_shorter(CAPTURES, room);
    if_priced_as_placed(write, capture).update(table, key)
}

/// Adds the condition that a capture by units has the prices that its hold was placed with. The hold alone is written, so it
/// can't depend on the prices in the balance.
fn if_priced_as_placed(write: Expression, capture: &Capture) -> Expression {
    if capture.line.units.is_none() {
        return write;
    }
    balance_item::when_priced_with(write, capture.priced_by.pricing.into())
}

/// Builds the update of a capture that takes all that the hold keeps, and adds the missing credits to the hold. The
/// hold must still keep what was read.
pub(crate) fn growing_write(
    table: &str,
    key: &ItemKey,
    (read, capture, salt): (&Hold, &Capture, u8),
    now: Timestamp,
) -> Result<TransactWriteItem, Corrupt> {
    let added = capture.added.map(Amount::credits).unwrap_or_default();
    let room = u64::try_from(MAX_CAPTURES.saturating_mul(ELEMENTS)).unwrap_or(u64::MAX);
    appending(Expression::new(), (capture, salt))?
        .add("credits", credits(added))
        .set("remaining", number(0))
        .when_absent(END)
        .when("expires_at", ">", instant(now))
        .when("remaining", "=", credits(read.remaining()?))
        .when("credits", "=", credits(read.placement.amount.credits()))
        .when_shorter(CAPTURES, room)
        .update(table, key)
}

/// Builds the update that ends a hold and appends its last capture, if there is one. The hold must still be as it was
/// read. A hold that uses the capture's words for something else refuses the update; another `salt` gives other words.
pub(crate) fn ending_write(
    table: &str,
    workspace: &WorkspaceId,
    read: &Hold,
    ended: &Hold,
    salt: u8,
) -> Result<TransactWriteItem, Corrupt> {
    let last = ended.captures.get(read.captures.len());
    let ending = Expression::new()
        .set(END, text(status_name(ended.status)))
        .set("credits", credits(ended.placement.amount.credits()))
        .set("remaining", number(0))
        .remove(INDEX_PK)
        .remove(INDEX_SK)
        .when_absent(END)
        .when("remaining", "=", credits(read.remaining()?))
        // `remaining` alone is not enough: a capture that grew the hold meanwhile may have left the same remainder.
        .when("credits", "=", credits(read.placement.amount.credits()));
    let ending = match &ended.entry {
        Some(entry) => ending.set(ENTRY, text(entry)),
        None => ending,
    };
    match last {
        Some(last) => appending(ending, (last, salt_for(last, None, salt)))?,
        None => ending,
    }
    .update(table, &ItemKey::hold(workspace, &read.hold_id))
}

/// Appends a capture's two elements, and its words if they are new, on the condition that its key is absent.
fn appending(write: Expression, (capture, salt): (&Capture, u8)) -> Result<Expression, Corrupt> {
    let words = Words::of_capture(capture, salt);
    let added = capture.added.map(|added| format!("+{added}")).unwrap_or_default();
    let uncollected = Some(capture.uncollected).filter(|credits| !credits.is_zero());
    let uncollected = uncollected.map(|credits| format!("-{credits}")).unwrap_or_default();
    let amounts = format!("{}{added}{uncollected}", capture.line.amount);
    let mut trace = decoded(&capture.fingerprint)?;
    trace.extend_from_slice(words.around(&amounts)?.as_bytes());
    let [key, trace] = [decoded(&capture.key)?, trace].map(|bytes| AttributeValue::B(Blob::new(bytes)));
    let mut write = write.append_all(CAPTURES, vec![key.clone(), trace]).when_not_in(CAPTURES, key);
    for (word, meaning) in [&words.call, &words.consumer] {
        let name = format!("{WORDS}.{word}");
        write = write.set_once(&name, text(meaning)).when_absent_or(&name, "=", text(meaning));
    }
    Ok(write)
}

/// Reads a hold from its item.
pub(crate) fn read(item: &Item) -> Result<Hold, Corrupt> {
    let reader = Reader(item);
    let hold_id = reader.text(PK)?.rsplit_once('#').map(|(_, hold_id)| hold_id);
    let amount = reader.amount("credits")?;
    let words = reader.map(WORDS)?;
    let purpose = read_purpose(reader.text("purpose")?, words).ok_or(Corrupt::Attribute("purpose"))?;
    let captures = reader.list(CAPTURES)?.chunks(ELEMENTS).map(|elements| read_capture(elements, words));
    Ok(Hold {
        hold_id: hold_id.and_then(|id| id.parse::<Id>().ok()).ok_or(Corrupt::Attribute(PK))?,
        placement: Placement { epoch: reader.number("epoch")?, amount },
        purpose,
        status: read_status(reader.optional_text(END)).ok_or(Corrupt::Attribute(END))?,
        expires_at: reader.instant("expires_at")?,
        captures: captures.collect::<Option<_>>().ok_or(Corrupt::Attribute(CAPTURES))?,
        entry: reader.optional_text(ENTRY).map(str::to_owned),
    })
}

fn read_purpose(purpose: &str, words: &Item) -> Option<Purpose> {
    let ReadWords { operation, priced_by, consumer, metadata, .. } = read_words(purpose, words)?;
    Some(Purpose { operation, priced_by, consumer, metadata })
}

fn read_capture(elements: &[AttributeValue], words: &Item) -> Option<Capture> {
    let (ClaimDigests { key, fingerprint }, trace) = match elements {
        [AttributeValue::B(key), AttributeValue::B(trace)] => {
            let (fingerprint, trace) = trace.as_ref().split_at_checked(DIGEST_BYTES)?;
            let (key, fingerprint) = (URL_SAFE_NO_PAD.encode(key), URL_SAFE_NO_PAD.encode(fingerprint));
            (ClaimDigests { key, fingerprint }, std::str::from_utf8(trace).ok()?)
        }
        [AttributeValue::S(key), AttributeValue::S(trace)] => {
            let (fingerprint, trace) = trace.split_at_checked(SHORT_FINGERPRINT_CHARACTERS)?;
            (ClaimDigests { key: key.clone(), fingerprint: fingerprint.to_owned() }, trace)
        }
        _ => return None,
    };
    let ReadWords { operation, priced_by, model, consumer, amounts, metadata } = read_words(trace, words)?;
    let (amounts, uncollected) = match amounts.split_once('-') {
        Some((amounts, uncollected)) => (amounts, uncollected.parse().ok()?),
        None => (amounts, Credits::ZERO),
    };
    let (amount, added) = match amounts.split_once('+') {
        Some((amount, added)) => (amount, Some(added.parse().ok()?)),
        None => (amounts, None),
    };
    let line = PricedCall { operation, model, units: None, consumer, metadata, amount: amount.parse().ok()? };
    Some(Capture { key, fingerprint, line, priced_by, added, uncollected })
}

/// The decoded words of a trace or a purpose, and the amounts between them.
struct ReadWords<'a> {
    operation: Name,
    priced_by: PriceVersion,
    model: Option<Name>,
    consumer: Consumer,
    amounts: &'a str,
    metadata: Metadata,
}

fn read_words<'a>(text: &'a str, words: &Item) -> Option<ReadWords<'a>> {
    let meaning = |word: &str| words.get(word)?.as_s().ok();
    let (text, metadata) = match text.split_once('\n') {
        Some((text, metadata)) => (text, serde_json::from_str(metadata).ok()?),
        None => (text, Metadata::default()),
    };
    let (call, text) = text.split_at_checked(WORD_CHARACTERS)?;
    let (consumer, text) = text.split_at_checked(WORD_CHARACTERS)?;
    let (amounts, own) = text.split_once(',').unwrap_or((text, ""));
    let mut call = meaning(call)?.split(',');
    let (operation, rate_card, model) = (call.next()?, call.next()?, call.next()?);
    let pricing = call.next().map(str::parse).transpose().ok()?;
    Some(ReadWords {
        operation: operation.parse().ok()?,
        priced_by: PriceVersion { rate_card: rate_card.parse().ok()?, pricing },
        model: match model {
            "" => None,
            model => Some(model.parse().ok()?),
        },
        metadata,
        consumer: consumer_code::read(&consumer_code::join(meaning(consumer)?, own))?,
        amounts,
    })
}

fn status_name(status: HoldStatus) -> &'static str {
    match status {
        HoldStatus::Open => "open",
        HoldStatus::Settled => "settled",
        HoldStatus::Expired => "expired",
    }
}

fn read_status(end: Option<&str>) -> Option<HoldStatus> {
    let Some(end) = end else { return Some(HoldStatus::Open) };
    [HoldStatus::Settled, HoldStatus::Expired].into_iter().find(|status| status_name(*status) == end)
}
