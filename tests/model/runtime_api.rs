//! A stand-in for Lambda's Runtime API, which runs a function's binary: it serves invocations to the process and
//! collects the responses.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// The timeout of every wait.
const PATIENCE: Duration = Duration::from_secs(10);

/// A process of a function, and the Runtime API that it uses.
#[derive(Debug)]
pub struct Process {
    child: Child,
    shared: Arc<Shared>,
    /// The time from the process's start to its first request for an invocation.
    pub init: Duration,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    first_asked: Option<Instant>,
    events: VecDeque<String>,
    answers: VecDeque<String>,
    ended: bool,
}

impl Process {
    /// Starts a function's binary with these settings, and waits until it requests an invocation.
    #[must_use]
    pub fn start(binary: &Path, settings: &[(&str, String)]) -> Self {
        let mut command = Command::new(binary);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared::default());
        let serving = Arc::clone(&shared);
        std::thread::spawn(move || serve(&listener, &serving));
        let began = Instant::now();
        as_lambda_does(&mut command, address, settings);
        let child = command.spawn().unwrap();
        let state = shared.wait(|state| state.first_asked.is_some());
        let init = state.first_asked.unwrap().duration_since(began);
        drop(state);
        Self { child, shared, init }
    }

    /// Invokes the function, and returns its response.
    #[must_use]
    pub fn invoke(&self, event: &str) -> String {
        self.shared.state().events.push_back(event.to_owned());
        self.shared.changed.notify_all();
        self.shared.wait(|state| !state.answers.is_empty()).answers.pop_front().unwrap()
    }

    /// Returns the processor time of the process's main thread so far.
    #[must_use]
    pub fn cpu_time(&self) -> Duration {
        let times =
            std::fs::read_to_string(format!("/proc/{}/schedstat", self.child.id())).unwrap_or_default();
        let nanos = times.split_whitespace().next().and_then(|nanos| nanos.parse().ok());
        Duration::from_nanos(nanos.unwrap_or(0))
    }

    /// Returns the peak resident memory of the process, in KB.
    #[must_use]
    pub fn most_memory_kb(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap_or_default();
        let most = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        most.and_then(|most| most.split_whitespace().next()?.parse().ok()).unwrap_or(0)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
        self.shared.state().ended = true;
        self.shared.changed.notify_all();
    }
}

/// Sets the environment that Lambda sets, and the function's settings.
fn as_lambda_does(command: &mut Command, runtime_api: SocketAddr, settings: &[(&str, String)]) {
    command.env_clear().stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    command.env("AWS_LAMBDA_RUNTIME_API", runtime_api.to_string());
    for (name, value) in [
        ("AWS_LAMBDA_FUNCTION_NAME", "bench"),
        ("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "128"),
        ("AWS_LAMBDA_FUNCTION_VERSION", "1"),
        ("AWS_LAMBDA_LOG_GROUP_NAME", "bench"),
        ("AWS_LAMBDA_LOG_STREAM_NAME", "bench"),
        ("AWS_REGION", "eu-central-1"),
        ("AWS_ACCESS_KEY_ID", "bench"),
        ("AWS_SECRET_ACCESS_KEY", "bench"),
        ("AWS_SESSION_TOKEN", "bench"),
    ] {
        command.env(name, value);
    }
    command.envs(settings.iter().map(|(name, value)| (*name, value)));
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait(&self, until: impl Fn(&State) -> bool) -> MutexGuard<'_, State> {
        let waited = self.changed.wait_timeout_while(self.state(), PATIENCE, |state| !until(state));
        let (state, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
        assert!(!timeout.timed_out(), "the function did not answer within 10 seconds");
        state
    }
}

fn serve(listener: &TcpListener, shared: &Arc<Shared>) {
    for stream in listener.incoming() {
        let shared = Arc::clone(shared);
        std::thread::spawn(move || stream.map(|stream| converse(&stream, &shared)));
    }
}

/// Serves the requests of one connection until it is closed.
fn converse(stream: &TcpStream, shared: &Shared) -> Option<()> {
    stream.set_nodelay(true).ok()?;
    let mut reader = BufReader::new(stream);
    loop {
        let (line, body) = read_request(&mut reader)?;
        let answer = if line.contains("/invocation/next") {
            let event = next_event(shared)?;
            let deadline = u128::from(u64::MAX / 2_000_000);
            format!(
                "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nlambda-runtime-aws-request-id: 1\r\n\
                 lambda-runtime-deadline-ms: {deadline}\r\nlambda-runtime-invoked-function-arn: arn\r\n\
                 lambda-runtime-trace-id: Root=1-5759e988-bd862e3fe1be46a994272793;Sampled=0\r\n\
                 content-length: {}\r\n\r\n{event}",
                event.len()
            )
        } else {
            shared.state().answers.push_back(body);
            shared.changed.notify_all();
            "HTTP/1.1 202 Accepted\r\ncontent-length: 0\r\n\r\n".to_owned()
        };
        let mut stream = stream;
        stream.write_all(answer.as_bytes()).ok()?;
    }
}

fn next_event(shared: &Shared) -> Option<String> {
    let mut state = shared.state();
    state.first_asked.get_or_insert_with(Instant::now);
    shared.changed.notify_all();
    while state.events.is_empty() && !state.ended {
        state = shared.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
    }
    state.events.pop_front()
}

/// Reads a request, also a chunked one. Returns its first line and its body.
fn read_request(reader: &mut BufReader<&TcpStream>) -> Option<(String, String)> {
    let mut line = String::new();
    reader.read_line(&mut line).ok().filter(|read| *read > 0)?;
    let (mut length, mut chunked) = (0, false);
    loop {
        let mut header = String::new();
        reader.read_line(&mut header).ok()?;
        let header = header.trim().to_ascii_lowercase();
        if header.is_empty() {
            break;
        }
        length = header.strip_prefix("content-length: ").and_then(|it| it.parse().ok()).unwrap_or(length);
        chunked |= header == "transfer-encoding: chunked";
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    while chunked {
        let mut size = String::new();
        reader.read_line(&mut size).ok()?;
        let size = usize::from_str_radix(size.trim(), 16).ok()?;
        let mut chunk = vec![0; size + 2];
        reader.read_exact(&mut chunk).ok()?;
        body.extend_from_slice(&chunk[..size]);
        chunked = size > 0;
    }
    Some((line, String::from_utf8_lossy(&body).into_owned()))
}
