//! The `cargo local` command: its printed examples work, and its data survives `kill -9`.
#![allow(clippy::arithmetic_side_effects, clippy::unwrap_used, reason = "tests may calculate and unwrap")]

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, RwLock};

use serde_json::{Value, json};
use tokio::task::JoinSet;

/// A running `cargo local`. Dropping it does not stop the process.
struct Local {
    child: Child,
    url: String,
    token: String,
    said: String,
}

impl Local {
    fn start(folder: &Path) -> Self {
        Self::start_with(folder, &[])
    }

    fn start_with(folder: &Path, options: &[&str]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_credits_local"))
            .args(["--port", "0", "--data"])
            .arg(folder)
            .args(options)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = String::new();
        for line in BufReader::new(child.stdout.take().unwrap()).lines() {
            said = said + &line.unwrap() + "\n";
            if said.contains("Ctrl-C") {
                break;
            }
        }
        let after =
            |mark: &str| said.split(mark).nth(1).unwrap().split_whitespace().next().unwrap().to_owned();
        let (url, token) = (after("running at "), after("TOKEN="));
        Self { child, url, token, said }
    }

    fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    async fn post(&self, path: &str, key: &str, body: &Value) -> (u16, Value) {
        let request = http().post(format!("{}{path}", self.url)).bearer_auth(&self.token);
        let response = request.header("idempotency-key", key).json(body).send().await.unwrap();
        (response.status().as_u16(), response.json().await.unwrap())
    }

    async fn rename(&self, name: &str) {
        let request = http().put(format!("{}/v1/workspaces/demo", self.url)).bearer_auth(&self.token);
        let profile = json!({ "name": name, "plan": "free", "billing_email": "ada@acme.example" });
        assert_eq!(request.json(&profile).send().await.unwrap().status().as_u16(), 200);
    }

    async fn name(&self) -> String {
        let request = http().get(format!("{}/v1/workspaces/demo", self.url)).bearer_auth(&self.token);
        let workspace: Value = request.send().await.unwrap().json().await.unwrap();
        workspace["name"].as_str().unwrap().to_owned()
    }

    async fn available(&self) -> String {
        let request = http().get(format!("{}/v1/workspaces/demo/balance", self.url));
        let balance: Value = request.bearer_auth(&self.token).send().await.unwrap().json().await.unwrap();
        balance["available"].as_str().unwrap().to_owned()
    }

    /// Runs a printed example in a shell, as a newcomer would.
    fn shell(&self, line: &str) -> Value {
        let output = Command::new("bash").args(["-c", line]).env("TOKEN", &self.token).output().unwrap();
        serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{line}: {output:?}"))
    }
}

fn http() -> reqwest::Client {
    // The call fails if a provider is already installed, which is fine.
    drop(rustls::crypto::ring::default_provider().install_default());
    reqwest::Client::new()
}

struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("ai-credits-local-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        Self(folder)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.0));
    }
}

fn debit() -> Value {
    let consumer = json!({ "kind": "action", "feature": "assistant", "user_id": "ada" });
    json!({ "operation": "text.generate", "credits": "1.5", "consumer": consumer })
}

#[tokio::test]
async fn every_credit_survives_a_kill_9() {
    let folder = Folder::new("kill");
    let local = Local::start(&folder.0);
    let (_, top_up) = local.post("/v1/workspaces/demo/top-ups", "order", &json!({ "pack": "pack_1k" })).await;
    let (_, open) = local.post("/v1/workspaces/demo/top-ups", "open", &json!({ "pack": "pack_5k" })).await;
    let pay = |top_up: &Value| format!("/_local/checkouts/{}/pay", top_up["checkout_id"].as_str().unwrap());
    assert_eq!(local.post(&pay(&top_up), "", &json!({ "outcome": "succeeded" })).await.0, 200);
    for call in 0..20 {
        assert_eq!(local.post("/v1/workspaces/demo/debits", &format!("{call}"), &debit()).await.0, 201);
    }
    local.rename("Acme").await;
    let token = local.token.clone();
    local.kill();

    let mut local = Local::start(&folder.0);
    local.token = token;
    assert_eq!((local.available().await.as_str(), local.name().await.as_str()), ("970", "Acme"));
    assert_eq!(local.post("/v1/workspaces/demo/debits", "7", &debit()).await.0, 200);
    assert_eq!(local.post(&pay(&top_up), "", &json!({ "outcome": "succeeded" })).await.0, 200);
    assert_eq!(local.available().await, "970");
    assert_eq!(local.post(&pay(&open), "", &json!({ "outcome": "succeeded" })).await.0, 200);
    assert_eq!(local.available().await, "5970");
    local.kill();
}

#[tokio::test]
async fn the_printed_examples_work() {
    let folder = Folder::new("lines");
    let local = Local::start(&folder.0);
    let lines: Vec<&str> = local.said.lines().filter(|line| line.starts_with("curl")).collect();
    assert_eq!(lines.len(), 3);
    assert_eq!(local.shell(lines[0])["status"], 200);
    assert_eq!(local.available().await, "1000");
    assert_eq!(local.shell(lines[1])["credits"], "2.3");
    assert_eq!(local.shell(lines[2])["code"], "insufficient_credits");
    assert_eq!(local.available().await, "997.7");
    local.kill();
}

#[tokio::test]
async fn a_running_stack_is_verified_and_watched_by_commands() {
    let folder = Folder::new("watch");
    let local = Local::start(&folder.0);
    let port = local.url.rsplit(':').next().unwrap().to_owned();
    let (_, top_up) = local.post("/v1/workspaces/demo/top-ups", "order", &json!({ "pack": "pack_1k" })).await;
    let pay = format!("/_local/checkouts/{}/pay", top_up["checkout_id"].as_str().unwrap());
    assert_eq!(local.post(&pay, "", &json!({ "outcome": "succeeded" })).await.0, 200);
    assert_eq!(local.post("/v1/workspaces/demo/debits", "1", &debit()).await.0, 201);
    let command = |words: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_credits_local"));
        command.args(words).args(["--port", &port]).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    };
    let verified = command(&["verify"]).output().unwrap();
    let said = String::from_utf8(verified.stdout).unwrap();
    assert!(
        verified.status.success() && said.starts_with("1 workspaces, 1 months, 2 ledger entries: "),
        "{said}"
    );

    let mut watching = command(&["watch", "demo"]).spawn().unwrap();
    let mut lines = BufReader::new(watching.stdout.take().unwrap()).lines();
    assert_eq!(lines.next().unwrap().unwrap(), "demo  998.5 credits to spend, 1.5 this month");
    assert_eq!(local.post("/v1/workspaces/demo/debits", "2", &debit()).await.0, 201);
    assert!(lines.any(|line| line.unwrap() == "demo  997 credits to spend, 3 this month"));
    watching.kill().unwrap();
    watching.wait().unwrap();

    for (words, said) in
        [(vec!["watch", "nobody"], "404"), (vec!["watch"], "a workspace"), (vec!["ver"], "unknown command")]
    {
        let refused = command(&words).output().unwrap();
        let error = String::from_utf8(refused.stderr).unwrap();
        assert!(!refused.status.success() && error.contains(said), "{error}");
    }
    local.kill();
    let silent = command(&["verify"]).output().unwrap();
    assert!(
        !silent.status.success() && String::from_utf8(silent.stderr).unwrap().contains("nothing answers")
    );
}

/// Debits of many callers on lanes, while the process is killed twice. Each caller repeats a call under its key until it is
/// answered.
#[tokio::test(flavor = "multi_thread")]
async fn busy_callers_lose_nothing_by_a_kill_9() {
    const CALLERS: usize = 24;
    const CALLS: usize = 60;
    let folder = Folder::new("busy");
    let local = Local::start_with(&folder.0, &["--conflicts"]);
    let (_, top_up) = local.post("/v1/workspaces/demo/top-ups", "order", &json!({ "pack": "pack_1k" })).await;
    let pay = format!("/_local/checkouts/{}/pay", top_up["checkout_id"].as_str().unwrap());
    assert_eq!(local.post(&pay, "", &json!({ "outcome": "succeeded" })).await.0, 200);
    let reached = Arc::new(RwLock::new((local.url.clone(), local.token.clone())));
    let answered = Arc::new(AtomicUsize::new(0));
    let mut callers = JoinSet::new();
    for caller in 0..CALLERS {
        let (reached, answered) = (Arc::clone(&reached), Arc::clone(&answered));
        callers.spawn(async move {
            let (http, mut paid) = (http(), 0);
            for call in 0..CALLS {
                let status = loop {
                    let (url, token) = reached.read().unwrap().clone();
                    let request = http.post(format!("{url}/v1/workspaces/demo/debits")).bearer_auth(token);
                    let request =
                        request.header("idempotency-key", format!("{caller}-{call}")).json(&debit());
                    match request.send().await.map(|response| response.status().as_u16()) {
                        Ok(status) if status != 503 => break status,
                        _ => tokio::task::yield_now().await,
                    }
                };
                assert!([200, 201, 402].contains(&status), "{status}");
                paid += usize::from(status != 402);
                answered.fetch_add(1, Ordering::SeqCst);
            }
            paid
        });
    }
    let (mut local, token) = (local, reached.read().unwrap().1.clone());
    for share in [3, 2] {
        while answered.load(Ordering::SeqCst) < CALLERS * CALLS / share {
            tokio::task::yield_now().await;
        }
        local.kill();
        local = Local::start_with(&folder.0, &["--conflicts"]);
        local.token.clone_from(&token);
        *reached.write().unwrap() = (local.url.clone(), token.clone());
    }
    let paid: usize = callers.join_all().await.into_iter().sum();
    // 1,000 credits pay 666 debits of 1.5.
    assert_eq!((paid, local.available().await.as_str()), (666, "1"));
    let verified = http().post(format!("{}/_local/verify", local.url)).send().await.unwrap();
    assert_eq!(verified.json::<Value>().await.unwrap()["differences"], json!([]));
    local.kill();
}

#[test]
fn list_of_prices_is_printed_as_models_with_a_report() {
    let folder = Folder::new("import");
    let file = folder.0.join("prices.json");
    let list = json!({
        "north-2": { "input_cost_per_token": 1.5e-7, "output_cost_per_token": 6e-7, "input_cost_per_query": 0.01 },
        "north/2": { "input_cost_per_token": 1.5e-7 },
    });
    std::fs::write(&file, list.to_string()).unwrap();
    let import = |file: &Path, options: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_credits_local"));
        let output = command.args(["catalogue", "import"]).arg(file).args(options).output().unwrap();
        let [stdout, stderr] = [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap());
        (output.status.success(), stdout, stderr)
    };
    let (succeeded, models, report) = import(&file, &["--markup", "1.4", "--credit", "0.01"]);
    let models: Value = serde_json::from_str(&models).unwrap();
    let rates = [&models[0]["rates"][0]["credits"], &models[0]["rates"][1]["credits"]];
    assert!(succeeded && rates == [&json!("21"), &json!("84")], "{models}");
    for line in
        ["north-2: not imported: input_cost_per_query", "north/2: skipped", "imported 1 models, skipped 1"]
    {
        assert!(report.contains(line), "{report}");
    }

    std::fs::write(folder.0.join("none.json"), "{}").unwrap();
    let missing = folder.0.join("missing.json");
    for (file, options, reason) in [
        (&file, &["--markup", "1.4"][..], "needs --markup and --credit"),
        (&file, &["--markup", "0", "--credit", "1"], "--markup must be a decimal above zero"),
        (&file, &["--markup", "1", "--credit=1e-2"], "--credit must be a decimal above zero"),
        (&missing, &["--markup", "1", "--credit", "1"], "missing.json can't be read"),
        (&folder.0.join("none.json"), &["--markup", "1", "--credit", "1"], "imported 0 models"),
    ] {
        let (succeeded, models, error) = import(file, options);
        assert!(!succeeded && models.is_empty() && error.contains(reason), "{error}");
    }
}
