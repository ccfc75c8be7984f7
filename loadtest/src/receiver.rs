//! A receiver of webhooks that keeps a ledger and has bad times by plan.
//! Owns:  one listening port, a thread per connection, the script of faults.
//! Gives: one `Delivery` per request that it read, to whoever keeps the ledger; `Program`, the same in
//!        a process of its own.
//! Never: an HTTP library: what it understands of the wire is its own reading.
//! Holds: while it refuses, its port is closed and so is every connection.

use std::collections::HashMap;
use std::fmt;
use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::str::FromStr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::gateway::beside_us;
use crate::process::Running;
use crate::wait;

/// Connections at a time; a gateway has 32 calls under way.
const CONNECTIONS_MAX: u64 = 512;
const HEAD_BYTES_MAX: u64 = 64 << 10;
const BODY_BYTES_MAX: usize = 512 << 20;
const IDLE_TIMEOUT: Duration = Duration::from_secs(90);
/// How often the accepting thread looks at the script.
const TURN: Duration = Duration::from_millis(5);
/// What the program says when it listens, with its address behind it.
pub const LISTENING: &str = "receiver: listening on ";
/// For the program to say so.
const START: Duration = Duration::from_secs(30);

/// One request, as it was read.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Delivery {
    /// Milliseconds since 1970.
    pub at: u64,
    pub path: String,
    /// `webhook-id`.
    pub id: String,
    /// `cdr`, the name of an event, or `unknown`.
    pub kind: String,
    /// The session id of a call record.
    pub call: Option<String>,
    /// The AOR of a registration.
    pub aor: Option<String>,
    /// What was answered; nothing while it hangs.
    pub status: Option<u16>,
    pub bytes: usize,
    /// File parts of a multipart body, by name.
    pub files: Vec<String>,
}

impl Delivery {
    pub fn is_accepted(&self) -> bool {
        self.status.is_some_and(|status| (200..300).contains(&status))
    }
}

/// What the receiver does instead of answering 200.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Reads the request and never answers.
    Hang,
    /// Nobody listens.
    Refuse,
    /// Answers after so long.
    Slow(Duration),
    Status(u16),
}

/// A fault from one time after the start to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spell {
    pub from: Duration,
    pub to: Duration,
    pub fault: Fault,
}

/// `60:refuse:600`, `5:500:10`, `0:slow=250:30`: seconds after the start, the fault, for how many seconds.
impl FromStr for Spell {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("\"{text}\" is not AT:FAULT:FOR, such as 60:refuse:600");
        let mut parts = text.split(':');
        let (Some(at), Some(word), Some(length), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(wrong());
        };
        let seconds =
            |text: &str| text.parse::<f64>().ok().and_then(|s| Duration::try_from_secs_f64(s).ok());
        let from = seconds(at).ok_or_else(wrong)?;
        let to = from + seconds(length).ok_or_else(wrong)?;
        let fault = match word {
            "hang" => Fault::Hang,
            "refuse" => Fault::Refuse,
            word => match word.strip_prefix("slow=") {
                Some(ms) => Fault::Slow(Duration::from_millis(ms.parse().map_err(|_| wrong())?)),
                None => Fault::Status(word.parse().map_err(|_| wrong())?),
            },
        };
        Ok(Self { from, to, fault })
    }
}

pub type Ledger = Box<dyn Fn(&Delivery) + Send + Sync>;

/// Ends with the value.
pub struct Receiver {
    pub address: SocketAddr,
    shared: Arc<Shared>,
    accepting: Option<thread::JoinHandle<()>>,
}

impl fmt::Debug for Receiver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Receiver").field("address", &self.address).finish_non_exhaustive()
    }
}

struct Shared {
    started: Instant,
    script: Mutex<Vec<Spell>>,
    ledger: Ledger,
    stopped: AtomicBool,
    next: AtomicU64,
    open: Mutex<HashMap<u64, TcpStream>>,
}

impl Receiver {
    pub fn start(address: SocketAddr, script: Vec<Spell>, ledger: Ledger) -> io::Result<Self> {
        let listener = TcpListener::bind(address)?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            started: Instant::now(),
            script: Mutex::new(script),
            ledger,
            stopped: AtomicBool::new(false),
            next: AtomicU64::new(0),
            open: Mutex::default(),
        });
        let accepting = thread::spawn({
            let shared = Arc::clone(&shared);
            move || accept(&shared, listener, address)
        });
        Ok(Self { address, shared, accepting: Some(accepting) })
    }

    /// Another script; its times count from now.
    pub fn play(&self, script: &[Spell]) {
        let now = self.shared.started.elapsed();
        let moved = |spell: &Spell| Spell { from: now + spell.from, to: now + spell.to, ..*spell };
        *lock(&self.shared.script) = script.iter().map(moved).collect();
    }

    /// Since the start.
    pub fn age(&self) -> Duration {
        self.shared.started.elapsed()
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Ordering::Relaxed);
        self.shared.hang_up();
        if let Some(accepting) = self.accepting.take() {
            // A panic there has been printed already.
            drop(accepting.join());
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    fn fault(&self) -> Option<Fault> {
        let now = self.started.elapsed();
        let script = lock(&self.script);
        script.iter().find(|spell| (spell.from..spell.to).contains(&now)).map(|spell| spell.fault)
    }

    fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Relaxed)
    }

    fn hang_up(&self) {
        for (_, stream) in lock(&self.open).drain() {
            // One that is closed already is closed enough.
            drop(stream.shutdown(Shutdown::Both));
        }
    }
}

fn accept(shared: &Arc<Shared>, listener: TcpListener, address: SocketAddr) {
    let mut listener = Some(listener);
    while !shared.is_stopped() {
        if shared.fault() == Some(Fault::Refuse) {
            listener = None;
            shared.hang_up();
            thread::sleep(TURN);
            continue;
        }
        let Some(listening) = &listener else {
            // A connection of before may hold the port for a moment.
            listener = TcpListener::bind(address).ok();
            thread::sleep(TURN);
            continue;
        };
        match listening.set_nonblocking(true).and_then(|()| listening.accept()) {
            Ok((stream, _)) => open(shared, stream),
            Err(_) => thread::sleep(TURN),
        }
    }
}

fn open(shared: &Arc<Shared>, stream: TcpStream) {
    let number = shared.next.fetch_add(1, Ordering::Relaxed);
    let mut connections = lock(&shared.open);
    let Ok(ours) = stream.try_clone() else { return };
    if connections.len() as u64 >= CONNECTIONS_MAX {
        return;
    }
    connections.insert(number, ours);
    drop(connections);
    let shared = Arc::clone(shared);
    thread::spawn(move || {
        // A connection that breaks is over; the gateway says so in its own log.
        drop(serve(&shared, stream));
        lock(&shared.open).remove(&number);
    });
}

/// Request after request, until either side has enough.
fn serve(shared: &Shared, stream: TcpStream) -> io::Result<()> {
    stream.set_nonblocking(false)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(IDLE_TIMEOUT))?;
    let mut out = stream.try_clone()?;
    let mut input = BufReader::new(stream);
    while let Some(request) = read_request(&mut input)? {
        let fault = shared.fault();
        let status = match fault {
            Some(Fault::Hang | Fault::Refuse) => None,
            Some(Fault::Status(status)) => Some(status),
            Some(Fault::Slow(_)) | None => Some(200),
        };
        if let Some(Fault::Slow(wait)) = fault {
            thread::sleep(wait);
        }
        (shared.ledger)(&request.delivery(status));
        match status {
            None => {
                while !shared.is_stopped() && shared.fault() == Some(Fault::Hang) {
                    thread::sleep(TURN);
                }
                return Ok(());
            }
            Some(status) => {
                let answer = format!("HTTP/1.1 {status} {status}\r\nContent-Length: 0\r\n\r\n");
                out.write_all(answer.as_bytes())?;
            }
        }
    }
    Ok(())
}

#[derive(Debug)]
struct Request {
    path: String,
    headers: HashMap<String, String>,
    body: Vec<u8>,
}

fn odd(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

fn read_request(input: &mut BufReader<TcpStream>) -> io::Result<Option<Request>> {
    let mut head = input.by_ref().take(HEAD_BYTES_MAX);
    let mut line = String::new();
    if head.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    let path = line.split(' ').nth(1).ok_or_else(|| odd("no request line"))?.to_owned();
    let mut headers = HashMap::new();
    loop {
        line.clear();
        if head.read_line(&mut line)? == 0 {
            return Err(odd("the head is too long or ends early"));
        }
        let line = line.trim_end();
        if line.is_empty() {
            break;
        }
        let (name, value) = line.split_once(':').ok_or_else(|| odd("no header line"))?;
        headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
    }
    let length = headers.get("content-length").and_then(|text| text.parse().ok());
    let length: usize = length.ok_or_else(|| odd("no Content-Length"))?;
    if length > BODY_BYTES_MAX {
        return Err(odd("the body is too long"));
    }
    let mut body = vec![0; length];
    input.read_exact(&mut body)?;
    Ok(Some(Request { path, headers, body }))
}

impl Request {
    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }

    fn delivery(&self, status: Option<u16>) -> Delivery {
        let boundary = self.header("content-type").split_once("boundary=").map(|(_, b)| b);
        let parts = boundary.map_or_else(Vec::new, |boundary| parts(&self.body, boundary));
        let json = match parts.iter().find(|(name, _)| name == "calllog.json") {
            Some((_, content)) => content,
            None => self.body.as_slice(),
        };
        let document: Value = serde_json::from_slice(json).unwrap_or_default();
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let call = text(&document["sessionId"]);
        let event = text(&document["event"]);
        let kind = event.or_else(|| call.as_ref().map(|_| "cdr".to_owned()));
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Delivery {
            at: u64::try_from(now.as_millis()).unwrap_or(u64::MAX),
            path: self.path.clone(),
            id: self.header("webhook-id").to_owned(),
            kind: kind.unwrap_or_else(|| "unknown".to_owned()),
            aor: text(&document["location"]["aor"]),
            call,
            status,
            bytes: self.body.len(),
            files: parts
                .into_iter()
                .map(|(name, _)| name)
                .filter(|n| n != "calllog.json")
                .collect(),
        }
    }
}

/// The program `receiver` as a child process.
#[derive(Debug)]
pub struct Program {
    pub address: SocketAddr,
    ledger: PathBuf,
    /// Ends it when it goes.
    _running: Running,
}

impl Program {
    /// `folder`: where its ledger and its log go.
    pub fn start(folder: &Path, faults: &[String]) -> Result<Self, String> {
        let (ledger, log) = (folder.join("receiver.jsonl"), folder.join("receiver.log"));
        let mut command = Command::new(beside_us("receiver")?);
        command.arg("--log").arg(&ledger);
        for fault in faults {
            command.arg("--fault").arg(fault);
        }
        let mut running = Running::start("receiver", &mut command, &log)?;
        let listening = wait::until("address of the receiver", START, || {
            let text = fs::read_to_string(&log).ok()?;
            let address = text.lines().find_map(|line| line.strip_prefix(LISTENING))?;
            address.parse().ok()
        });
        if !running.is_running() {
            return Err(format!("the receiver left at once: {}", running.tail()));
        }
        let address = listening.map_err(|error| format!("{error}: {}", running.tail()))?;
        Ok(Self { address, ledger, _running: running })
    }

    /// Everything that it heard so far.
    pub fn heard(&self) -> Result<Vec<Delivery>, String> {
        match fs::read_to_string(&self.ledger) {
            // The last line may still be on its way.
            Ok(text) => text
                .split_inclusive('\n')
                .filter(|line| line.ends_with('\n'))
                .map(|line| serde_json::from_str(line).map_err(|error| error.to_string()))
                .collect(),
            Err(error) => Err(format!("{}: {error}", self.ledger.display())),
        }
    }
}

/// Names and contents of the parts of a multipart body (RFC 2046 5.1.1).
fn parts<'b>(body: &'b [u8], boundary: &str) -> Vec<(String, &'b [u8])> {
    let mark = format!("--{boundary}");
    let mark = mark.as_bytes();
    let find = |from: usize, what: &[u8]| {
        let found = body.get(from..)?.windows(what.len()).position(|window| window == what)?;
        Some(from + found)
    };
    let mut parts = Vec::new();
    let mut at = find(0, mark);
    while let Some(start) = at {
        let start = start + mark.len();
        let Some(head_end) = find(start, b"\r\n\r\n") else { break };
        let Some(next) = find(head_end, mark) else { break };
        let head = String::from_utf8_lossy(&body[start..head_end]);
        let name = head.split_once("name=\"").and_then(|(_, rest)| rest.split_once('"'));
        if let Some((name, _)) = name {
            // The line break before a boundary belongs to the boundary.
            let content = body.get(head_end + 4..next - 2).unwrap_or_default();
            parts.push((name.to_owned(), content));
        }
        at = Some(next);
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spells_are_read() {
        let spell = |from, to, fault| Spell {
            from: Duration::from_secs(from),
            to: Duration::from_secs(to),
            fault,
        };
        assert_eq!("60:refuse:600".parse(), Ok(spell(60, 660, Fault::Refuse)));
        assert_eq!("0:503:1".parse(), Ok(spell(0, 1, Fault::Status(503))));
        let slow = Fault::Slow(Duration::from_millis(250));
        assert_eq!("1:slow=250:2".parse(), Ok(spell(1, 3, slow)));
        for wrong in ["", "1:hang", "x:hang:1", "1:nap:1", "1:hang:1:1", "1:slow=:1", "-1:hang:1"] {
            assert!(wrong.parse::<Spell>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_parts_of_a_form_are_found() {
        let body = b"--b\r\nContent-Disposition: form-data; name=\"calllog.json\"\r\n\r\n{\"sessionId\":\
            \"7\"}\r\n--b\r\nContent-Disposition: form-data; name=\"media_audio-0\"; filename=\"x\"\r\n\r\n\
            RIFF\r\n\r\n--b--\r\n";
        let parts = parts(body, "b");
        assert_eq!(parts[0], ("calllog.json".to_owned(), &b"{\"sessionId\":\"7\"}"[..]));
        assert_eq!(parts[1], ("media_audio-0".to_owned(), &b"RIFF\r\n"[..]));
        assert_eq!(parts.len(), 2);
    }

    #[test]
    fn it_answers_keeps_its_ledger_and_refuses_by_plan() {
        let (sender, heard) = std::sync::mpsc::channel();
        let ledger: Ledger = Box::new(move |delivery| {
            drop(sender.send(delivery.clone()));
        });
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let receiver = Receiver::start(any, Vec::new(), ledger).expect("a port");
        let ask = || -> io::Result<String> {
            let mut stream = TcpStream::connect(receiver.address)?;
            stream.set_read_timeout(Some(Duration::from_secs(10)))?;
            let body = r#"{"event":"registered","location":{"aor":"sip:1@x"}}"#;
            write!(
                stream,
                "POST /hook HTTP/1.1\r\nHost: x\r\nWebhook-Id: msg_1\r\nContent-Length: {}\r\n\r\n{body}",
                body.len()
            )?;
            let mut line = String::new();
            BufReader::new(stream).read_line(&mut line)?;
            Ok(line)
        };
        assert_eq!(ask().expect("an answer"), "HTTP/1.1 200 200\r\n");
        let first = heard.recv().expect("it is in the ledger");
        assert_eq!((first.id.as_str(), first.kind.as_str()), ("msg_1", "registered"));
        assert_eq!((first.aor.as_deref(), first.status), (Some("sip:1@x"), Some(200)));
        let ever = |fault| Spell { from: Duration::ZERO, to: Duration::from_secs(3_600), fault };
        receiver.play(&[ever(Fault::Status(500))]);
        assert_eq!(ask().expect("an answer"), "HTTP/1.1 500 500\r\n");
        receiver.play(&[ever(Fault::Refuse)]);
        let deadline = Instant::now() + Duration::from_secs(10);
        while ask().is_ok_and(|line| !line.is_empty()) {
            assert!(Instant::now() < deadline, "it still answers");
        }
        receiver.play(&[]);
        while !ask().is_ok_and(|line| line.starts_with("HTTP/1.1 200")) {
            assert!(Instant::now() < deadline, "it does not come back");
        }
    }
}
