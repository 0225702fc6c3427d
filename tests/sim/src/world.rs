//! The world of a run: two instances of the functions with separate clocks, and everything around them.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use credits_aws::dynamodb::dynamodb_config;
use credits_core::purchase::CheckoutOptions;
use credits_core::top_up_page::TopUpPage;
use credits_local::bus::Bus;
use credits_local::database::{self, create_table};
use credits_local::functions::{Functions, Parts, SettingsPage};
use credits_local::gateway::{Gateway, Request};
use credits_local::mailbox::Mailbox;
use credits_local::provider::StripeStandIn;
use credits_local::schedules::Schedule;
use credits_local::template::{DEPLOYED, Template};
use credits_local::tokens::{Issuer, TokenOrder};
use credits_payments::event::Mode;
use credits_payments::provider::Provider;
use credits_payments::signature::{Secret, sign};
use credits_runtime::return_url::ReturnOrigins;
use credits_store::{Clock, Sources, Store};
use jiff::civil::{Date, date};
use jiff::{SignedDuration, Timestamp, ToSpan};
use model::{Dice, Embedded, Seeded, VirtualClock};
use rust_decimal::Decimal;
use serde_json::Value;

use crate::actors::WORKSPACES;
use crate::bugs::{Bugs, Wrong};
use crate::call::{Answered, CALL, Called, Order, Reply, decimal};
use crate::faults::{Faults, WireFault};
use crate::item::text;
use crate::payments::{Payments, Way};
use crate::prices::catalogue;
use crate::run::RunPlan;
use crate::services::Services;
use crate::stream::SimStream;
use crate::table::{NAME, SimTable};
use crate::timeline::Timeline;
use crate::trace::SimTrace;
use crate::wire::{Ground, SimWire};

/// The date of the first possible start. A run starts within a year of it.
const BEGINS: Date = date(2026, 1, 1);

/// The longest pause of a run in which no months pass, in days.
pub const SHORT_PAUSE_DAYS: u64 = 6;

/// The largest deviation of an instance's clock, in milliseconds.
const MAX_SKEW_MILLIS: u64 = 600_000;

/// The secret that signs Stripe's events.
const WEBHOOK_SECRET: &str = "whsec_simulated";

/// How long a caller waits for a response.
const PATIENCE: Duration = Duration::from_secs(30);

/// A clock with a deviation in milliseconds.
#[derive(Debug)]
struct SkewedClock(VirtualClock, Arc<AtomicI64>);

impl Clock for SkewedClock {
    fn now(&self) -> Timestamp {
        self.0.now() + SignedDuration::from_millis(self.1.load(Ordering::SeqCst))
    }
}

/// The objects that actors know and use.
#[derive(Debug, Default)]
pub struct Known {
    /// The placed holds, by workspace.
    pub holds: BTreeMap<String, Vec<String>>,
    /// The grants made, by workspace.
    pub grants: BTreeMap<String, Vec<String>>,
    /// The started runs, by workspace.
    pub runs: BTreeMap<String, Vec<String>>,
    /// The debits, batches and settled holds, by workspace.
    pub debits: BTreeMap<String, Vec<KnownDebit>>,
    /// The captures of each hold.
    pub captures: BTreeMap<String, Vec<String>>,
}

/// A debit that can be refunded.
#[derive(Debug, Clone)]
pub struct KnownDebit {
    /// The id of the debit, the batch or the hold.
    pub debit_id: String,
    pub credits: Decimal,
    /// The credits of each call of a batch.
    pub lines: Vec<Decimal>,
    /// The known captures of a hold.
    pub captures: Vec<String>,
}

/// The world of a run.
#[derive(Debug)]
pub struct World {
    /// The dice for choices that no actor makes.
    pub dice: Dice,
    /// The longest pause between two acts, in days.
    pub longest_pause_days: u64,
    /// The state that all connections share.
    pub ground: Arc<Ground>,
    pub payments: Arc<Payments>,
    pub services: Services,
    pub schedules: Vec<Schedule>,
    pub calls: Mutex<Vec<Called>>,
    pub stream: SimStream,
    pub known: Mutex<Known>,
    fleet: Vec<Gateway>,
    /// An instance whose writes are slow. Its clock is right.
    slow: Functions,
    skews: Vec<Arc<AtomicI64>>,
    token: String,
    keys: AtomicU64,
}

impl World {
    /// Creates a world with an empty table.
    pub async fn new(plan: &RunPlan) -> Arc<Self> {
        let seed = plan.seed;
        let dice = Dice::of(seed);
        let clock = VirtualClock::at(&begins(&dice));
        let ground = Arc::new(Ground {
            table: SimTable::new(clock.clone(), Embedded::default(), Embedded::default()),
            faults: Faults::of(seed, &plan.calm),
            clock: clock.clone(),
            timeline: Timeline::default(),
            trace: SimTrace::new(clock.clone()),
            bugs: Bugs::planted(plan.bug),
        });
        let template = Template::parse(DEPLOYED).unwrap();
        let sources =
            |salt: u64, clock: Arc<dyn Clock>| Sources::new(clock, Arc::new(Seeded::of(seed ^ salt)));
        let own = sources(1, Arc::new(clock.clone()));
        let stand_in = StripeStandIn::open(
            None,
            Secret::new("sk"),
            Secret::new(WEBHOOK_SECRET),
            sources(2, Arc::new(clock.clone())),
        );
        let payments =
            Arc::new(Payments { provider: Mutex::new(stand_in.unwrap()), ground: Arc::clone(&ground) });
        let services = Services {
            bus: Arc::new(Bus::new(template.rules().unwrap(), own.clone())),
            mailbox: Arc::new(Mailbox::open(None).unwrap()),
            told: Arc::default(),
            ground: Arc::clone(&ground),
        };
        let skews: Vec<Arc<AtomicI64>> = (0..2).map(|_| Arc::default()).collect();
        let issuer = || Issuer::new([7; 32]);
        let fleet = skews.iter().zip(3_u64..).map(|(skew, salt)| {
            let skewed = sources(salt, Arc::new(SkewedClock(clock.clone(), Arc::clone(skew))));
            let functions = functions((&ground, &services, &payments), &skewed, false);
            Gateway::new(template.routes().unwrap(), functions, issuer(), own.clone())
        });
        let order = TokenOrder {
            workspace: "*".into(),
            scope: "credits:spend credits:read credits:manage credits:refund".into(),
            ttl_seconds: None,
        };
        let world = Self {
            // In a quarter of all runs pauses last up to 40 days, so that months pass.
            longest_pause_days: if dice.between(0, 3) == 0 { 40 } else { SHORT_PAUSE_DAYS },
            dice,
            slow: functions((&ground, &services, &payments), &own, true),
            fleet: fleet.collect(),
            token: format!("Bearer {}", issuer().issue(&order, clock.now()).unwrap()),
            schedules: template.schedules().unwrap(),
            ground: Arc::clone(&ground),
            payments,
            services,
            calls: Mutex::default(),
            known: Mutex::default(),
            stream: SimStream::default(),
            skews,
            keys: AtomicU64::new(0),
        };
        let onlooker = SimWire { function: "onlooker", onlooker: true, slow: false, ground };
        create_table(&client(&onlooker), NAME, database::Stream::Off).await.unwrap();
        world.ground.table.make_replica();
        Arc::new(world)
    }

    /// Returns the true time.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.ground.clock.now()
    }

    /// Returns a new idempotency key.
    #[must_use]
    pub fn new_key(&self) -> String {
        format!("k{}", self.keys.fetch_add(1, Ordering::SeqCst))
    }

    /// Sets each instance's clock, with a deviation of up to ten minutes in half of all cases. Returns by how much the
    /// slowest clock is slow.
    pub fn skew(&self, on: bool) -> SignedDuration {
        let mut slowest = SignedDuration::ZERO;
        for skew in &self.skews {
            let off = self.dice.between(0, 2 * MAX_SKEW_MILLIS) as i64 - MAX_SKEW_MILLIS as i64;
            let off = if on && self.dice.between(0, 1) == 0 { off } else { 0 };
            skew.store(off, Ordering::SeqCst);
            slowest = slowest.max(SignedDuration::from_millis(-off));
        }
        slowest
    }

    /// Makes one attempt of a call. Returns `None` if no response arrives.
    pub async fn call(&self, order: &Order) -> Option<Reply> {
        let Ground { faults, trace, table, .. } = &*self.ground;
        let number = {
            let mut calls = self.calls.lock().unwrap();
            calls.push(Called {
                order: order.clone(),
                from: table.commits(),
                at: self.now(),
                answered: None,
            });
            calls.len() - 1
        };
        trace.line(&format!("#{number} {}", order.shown()));
        let crash = if faults.strikes(WireFault::Crash) {
            Duration::from_micros(faults.between(0, 60_000))
        } else {
            PATIENCE
        };
        let answering = CALL.scope(number as u64, self.instance().answer(self.request(order)));
        let Ok(response) = tokio::time::timeout(crash, answering).await else {
            trace.line(&format!("#{number} has no response"));
            return None;
        };
        let reply = Reply {
            status: response.status().as_u16(),
            replayed: response.headers().contains_key("idempotent-replayed"),
            body: serde_json::from_slice(response.body()).unwrap_or_default(),
        };
        trace.line(&format!("#{number} → {} {}", reply.status, reply.body));
        let answered = Answered { until: table.commits(), at: self.now(), reply: reply.clone() };
        self.calls.lock().unwrap()[number].answered = Some(answered);
        self.know_debits(order, &reply);
        Some(reply)
    }

    /// Notes what a response debits, so that actors can refund it.
    fn know_debits(&self, order: &Order, reply: &Reply) {
        if ![200, 201].contains(&reply.status) || reply.replayed || order.method != "POST" {
            return;
        }
        let mut known = self.known.lock().unwrap();
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let mut debits = Vec::new();
        match order.path.split('/').collect::<Vec<_>>()[..] {
            ["debits"] | ["debits", "batch"] => {
                let lines = reply.body["lines"].as_array().into_iter().flatten();
                debits.push(KnownDebit {
                    debit_id: text(&reply.body["debit_id"]),
                    credits: decimal(&reply.body["credits"]),
                    lines: lines.map(|line| decimal(&line["credits"])).collect(),
                    captures: Vec::new(),
                });
            }
            ["holds", hold, "captures"] => {
                known.captures.entry(hold.to_owned()).or_default().push(text(&reply.body["capture_id"]));
            }
            ["holds", _, "settle"] => {
                let holds =
                    reply.body["holds"].as_array().map_or(std::slice::from_ref(&reply.body), |holds| holds);
                for hold in holds.iter().filter(|hold| decimal(&hold["captured"]) > Decimal::ZERO) {
                    let debit_id = text(&hold["hold_id"]);
                    let captures = known.captures.get(&debit_id).cloned().unwrap_or_default();
                    let credits = decimal(&hold["captured"]);
                    debits.push(KnownDebit { debit_id, credits, lines: Vec::new(), captures });
                }
            }
            _ => {}
        }
        known.debits.entry(order.workspace.clone()).or_default().extend(debits);
    }

    /// Delivers an event of Stripe's, signed with the current time. Returns whether the webhook accepted it.
    pub async fn deliver(&self, body: &str) -> bool {
        let signature = sign(body.as_bytes(), &Secret::new(WEBHOOK_SECRET), self.now()).unwrap();
        let mut headers = reqwest::header::HeaderMap::new();
        headers.insert("stripe-signature", signature.parse().unwrap());
        let request = Request {
            method: reqwest::Method::POST,
            uri: "/v1/webhooks/stripe".parse().unwrap(),
            headers,
            body: body.as_bytes().to_vec(),
        };
        let response = tokio::time::timeout(self.lifetime(), self.instance().answer(request)).await;
        let status = response.map_or(0, |response| response.status().as_u16());
        self.ground.trace.line(&format!("webhook → {status} {body}"));
        status == 200 || self.ground.bugs.is(Wrong::WebhookAlwaysTaken)
    }

    /// Invokes a function for an event. Returns its result; `None` if it failed or died.
    pub async fn invoke(&self, function: &str, event: Value) -> Option<Value> {
        self.invoke_on(&self.instance().functions, function, event).await
    }

    /// Invokes a function for an event on the instance whose writes are slow.
    pub async fn invoke_slowly(&self, function: &str, event: Value) -> Option<Value> {
        self.invoke_on(&self.slow, function, event).await
    }

    async fn invoke_on(&self, functions: &Functions, function: &str, event: Value) -> Option<Value> {
        let invoked = functions.fire(function, event);
        let answer = tokio::time::timeout(self.lifetime(), invoked).await;
        let (fate, answer) = match answer {
            Ok(Ok(answer)) => ("is done".to_owned(), Some(answer)),
            Ok(Err(error)) => (format!("fails: {error}"), None),
            Err(_) => ("dies".to_owned(), None),
        };
        self.ground.trace.line(&format!("{function} {fate}"));
        answer
    }

    /// Returns a workspace whose subscription is due now.
    #[must_use]
    pub fn renewed_now(&self) -> Option<&'static str> {
        let due = |workspace: &str| {
            let item =
                self.ground.table.item(&(format!("subscription#{workspace}"), "subscription".into()))?;
            let millis: i64 = text(&item, "index_sk").split('#').next()?.parse().ok()?;
            Some(millis <= self.now().as_millisecond())
        };
        WORKSPACES.into_iter().map(|(workspace, _)| workspace).find(|workspace| due(workspace) == Some(true))
    }

    /// Returns a store without faults.
    #[must_use]
    pub fn observer(&self) -> &Store {
        self.fleet[0].functions.observer()
    }

    /// Returns the functions of the first instance.
    #[must_use]
    pub fn functions(&self) -> &Functions {
        &self.fleet[0].functions
    }

    fn instance(&self) -> &Gateway {
        &self.fleet[self.ground.faults.between(0, self.fleet.len() as u64 - 1) as usize]
    }

    fn lifetime(&self) -> Duration {
        let faults = &self.ground.faults;
        if faults.strikes(WireFault::Crash) {
            Duration::from_micros(faults.between(0, 200_000))
        } else {
            Duration::from_mins(15)
        }
    }

    fn request(&self, order: &Order) -> Request {
        let mut headers = reqwest::header::HeaderMap::new();
        headers.insert("authorization", self.token.parse().unwrap());
        if let Some(key) = &order.key {
            headers.insert("idempotency-key", key.parse().unwrap());
        }
        if !order.body.is_null() {
            headers.insert("content-type", "application/json".parse().unwrap());
        }
        Request {
            method: order.method.parse().unwrap(),
            uri: order.uri().parse().unwrap(),
            headers,
            body: if order.body.is_null() { Vec::new() } else { order.body.to_string().into_bytes() },
        }
    }
}

fn client(wire: &SimWire) -> aws_sdk_dynamodb::Client {
    let credentials = aws_sdk_dynamodb::config::Credentials::for_tests();
    let http = wire.client();
    let config = dynamodb_config("eu-central-1", credentials, Some("http://table".to_owned()), http);
    aws_sdk_dynamodb::Client::from_conf(config)
}

fn functions(
    (ground, services, payments): (&Arc<Ground>, &Services, &Arc<Payments>),
    sources: &Sources,
    slow: bool,
) -> Functions {
    // The HTTP client of the provider reads the machine's certificates, so all worlds share one.
    static PROVIDER: OnceLock<Provider> = OnceLock::new();
    let store = |function: &'static str| {
        let wire = SimWire { function, onlooker: function == "observer", slow, ground: Arc::clone(ground) };
        Store::new(client(&wire), NAME, sources.clone())
    };
    let credentials = || aws_sdk_eventbridge::config::Credentials::for_tests();
    let http = services.client();
    let bus = project::config("eu-central-1", credentials(), Some("http://bus".to_owned()), http.clone());
    let mail = notify::config("eu-central-1", credentials(), Some("http://mail".to_owned()), http);
    let provider = PROVIDER.get_or_init(|| Provider::new("http://provider").unwrap());
    let parts = Parts {
        store: &store,
        bus: aws_sdk_eventbridge::Client::from_conf(bus),
        mail: aws_sdk_sesv2::Client::from_conf(mail),
        catalogue: catalogue(),
        provider: provider.clone().over(Arc::new(Way(Arc::clone(payments)))),
        provider_key: Secret::new("sk"),
        webhook_secret: Secret::new(WEBHOOK_SECRET),
        top_up_page: TopUpPage::at("https://hub.example/credits".to_owned()),
        return_origins: ReturnOrigins::default(),
        checkout_options: CheckoutOptions::default(),
        provider_mode: Mode::Test,
        seller: None,
        page: SettingsPage::default(),
    };
    Functions::start(parts).unwrap()
}

/// Draws the start of a run: a day of the year, in half of all runs one of the last three days of a month, which not
/// every month has.
fn begins(dice: &Dice) -> String {
    let day = BEGINS.saturating_add((dice.between(0, 364) as i64).days());
    let last = day.last_of_month().saturating_sub((dice.between(0, 2) as i64).days());
    let day = if dice.between(0, 1) == 0 { day } else { last };
    format!("{day}T{:02}:00:00Z", dice.between(0, 23))
}
