//! A request whose body arrives after its headers: the stack reads the whole body and keeps the connection open.
#![allow(clippy::arithmetic_side_effects, clippy::unwrap_used, reason = "tests may calculate and unwrap")]

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use credits_local::{Options, Stack};

/// The read timeout of a connection, longer than any test takes. It keeps a stack that never answers from hanging the
/// test.
const READ_TIMEOUT: Duration = Duration::from_mins(1);

/// The largest body that API Gateway accepts.
const MAX_BODY_BYTES: usize = 10 * 1024 * 1024;

const BODY: &str = "{}";

/// A connection to the stack that several requests share.
struct Connection(BufReader<TcpStream>);

impl Connection {
    fn open(stack: &Stack) -> Self {
        let stream = TcpStream::connect(("127.0.0.1", stack.port())).unwrap();
        stream.set_read_timeout(Some(READ_TIMEOUT)).unwrap();
        Self(BufReader::new(stream))
    }

    fn send(&mut self, text: &str) {
        self.0.get_mut().write_all(text.as_bytes()).unwrap();
        self.0.get_mut().flush().unwrap();
    }

    fn send_headers(&mut self, call: &str, length: usize) {
        self.send(&format!("{call} HTTP/1.1\r\nhost: localhost\r\ncontent-length: {length}\r\n\r\n"));
    }

    /// Reads one response to its end, and returns its status.
    fn status(&mut self) -> u16 {
        let (mut status, mut length) = (None, 0);
        loop {
            let mut line = String::new();
            assert!(self.0.read_line(&mut line).unwrap() > 0, "the connection is closed");
            let line = line.trim_end().to_ascii_lowercase();
            if let Some(first) = line.strip_prefix("http/1.1 ") {
                status = first.get(..3).and_then(|code| code.parse().ok());
            } else if let Some(value) = line.strip_prefix("content-length: ") {
                length = value.parse().unwrap();
            } else if line.is_empty() {
                break;
            }
        }
        self.0.read_exact(&mut vec![0; length]).unwrap();
        status.unwrap()
    }

    fn request(&mut self, call: &str) -> u16 {
        self.send_headers(call, BODY.len());
        self.send(BODY);
        self.status()
    }

    fn is_silent(&mut self) -> bool {
        self.0.get_mut().set_nonblocking(true).unwrap();
        let peeked = self.0.get_mut().peek(&mut [0]);
        self.0.get_mut().set_nonblocking(false).unwrap();
        peeked.is_err_and(|error| error.kind() == ErrorKind::WouldBlock)
    }
}

/// Covers handlers that take no body, an unknown path, an unknown method, and a call that the gateway refuses.
#[tokio::test(flavor = "multi_thread")]
async fn a_late_body_leaves_the_connection_open() {
    let stack = Stack::start(&Options::default()).await.unwrap();
    for (call, status) in [
        ("POST /_local/drain", 200),
        ("POST /_local/verify", 200),
        ("DELETE /_local/requests", 200),
        ("GET /_local/health", 200),
        ("GET /_local/mail", 200),
        ("PATCH /_local/health", 405),
        ("POST /nowhere", 404),
        ("POST /v1/workspaces/demo/debits", 401),
    ] {
        let (mut late, mut other) = (Connection::open(&stack), Connection::open(&stack));
        late.send_headers(call, BODY.len());
        // The same call on another connection. Once it is answered, the stack has had time to handle the first one.
        assert_eq!(other.request(call), status, "{call}");
        assert!(late.is_silent(), "{call} was answered before its body arrived");
        late.send(BODY);
        assert_eq!(late.status(), status, "{call}");
        assert_eq!(late.request("GET /_local/health"), 200, "the next request after {call}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_above_api_gateways_limit_is_refused() {
    let stack = Stack::start(&Options::default()).await.unwrap();
    let mut connection = Connection::open(&stack);
    let body = " ".repeat(MAX_BODY_BYTES + 1);
    connection.send_headers("POST /_local/drain", body.len());
    connection.send(&body);
    assert_eq!(connection.status(), 413);
}
