//! The program `ringgate` as a child process, driven over its standard streams, signals and HTTP.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::Path;
use std::process::{Child, ChildStderr, ChildStdout, Command, Output, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

pub(crate) fn ringgate(folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ringgate"));
    // A variable of whoever runs the tests must not change them.
    command.current_dir(folder).env_clear().env("TMPDIR", folder);
    command
}

pub(crate) fn run(folder: &Path, arguments: &[&str]) -> Output {
    ringgate(folder).args(arguments).output().expect("the program starts")
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Free for UDP and TCP a moment ago. Below the ports that the kernel gives to outgoing sockets, and below
/// those of media: a gateway that is started again finds its port free.
pub(crate) fn spare_port() -> u16 {
    static NEXT: OnceLock<AtomicU16> = OnceLock::new();
    let next = NEXT.get_or_init(|| AtomicU16::new(rand::random()));
    loop {
        let port = 10_000 + next.fetch_add(1, Ordering::Relaxed) % 2_000;
        let at = (Ipv4Addr::LOCALHOST, port);
        if UdpSocket::bind(at).is_ok() && TcpListener::bind(at).is_ok() {
            return port;
        }
    }
}

/// A deadline for a hang and not a measure of speed.
const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) struct Gate {
    child: Child,
    stdout: BufReader<ChildStdout>,
    stderr: BufReader<ChildStderr>,
    pub(crate) banner: String,
    http: SocketAddr,
}

impl Gate {
    /// Starts `serve` and reads the banner, which comes when everything is up.
    pub(crate) fn start(folder: &Path) -> Self {
        Self::start_with(folder, &[])
    }

    pub(crate) fn start_with(folder: &Path, arguments: &[&str]) -> Self {
        let mut child = ringgate(folder)
            .args(arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program starts");
        let mut stdout = BufReader::new(child.stdout.take().expect("a pipe"));
        let mut stderr = BufReader::new(child.stderr.take().expect("a pipe"));
        let mut banner = String::new();
        while !banner.contains("ringgate demo") {
            if stdout.read_line(&mut banner).expect("text") == 0 {
                let mut reason = String::new();
                stderr.read_to_string(&mut reason).expect("text");
                panic!("it ended early: {banner}{reason}");
            }
        }
        let (_, rest) = banner.split_once("http://").expect("the address is in it");
        let address: String =
            rest.chars().take_while(|c| c.is_ascii_digit() || ".:".contains(*c)).collect();
        let http = address.parse().expect("an address");
        Self { child, stdout, stderr, banner, http }
    }

    fn pid(&self) -> Pid {
        let pid = i32::try_from(self.child.id()).expect("a small number");
        Pid::from_raw(pid).expect("not zero")
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).expect("it runs");
    }

    /// Reads the log up to a line with `words`; a program that does not say them is ended after a minute.
    pub(crate) fn wait_for(&mut self, words: &str) -> String {
        let (_found, waiting) = mpsc::channel::<()>();
        let pid = self.pid();
        std::thread::spawn(move || {
            if waiting.recv_timeout(PATIENCE) == Err(RecvTimeoutError::Timeout) {
                kill_process(pid, Signal::KILL).expect("its log is still open");
            }
        });
        let mut line = String::new();
        loop {
            line.clear();
            let count = self.stderr.read_line(&mut line).expect("text");
            assert!(count > 0, "the log ended without \"{words}\"");
            if line.contains(words) {
                return line;
            }
        }
    }

    pub(crate) fn get(&self, path: &str) -> (u16, Value) {
        self.send("GET", path, "", "")
    }

    /// From loopback and without credentials.
    pub(crate) fn post(&self, path: &str, body: &Value) -> (u16, Value) {
        self.send("POST", path, "Content-Type: application/json\r\n", &body.to_string())
    }

    pub(crate) fn get_as(&self, token: &str, path: &str) -> (u16, Value) {
        self.send("GET", path, &format!("Authorization: Bearer {token}\r\n"), "")
    }

    /// The status of a form that is posted.
    pub(crate) fn post_form(&self, path: &str, body: &str) -> u16 {
        self.send("POST", path, "Content-Type: application/x-www-form-urlencoded\r\n", body).0
    }

    pub(crate) fn post_as(&self, token: &str, path: &str, body: &Value) -> (u16, Value) {
        self.send_as(token, "POST", path, body)
    }

    /// A request with a JSON body.
    pub(crate) fn send_as(
        &self,
        token: &str,
        method: &str,
        path: &str,
        body: &Value,
    ) -> (u16, Value) {
        let more = format!("Authorization: Bearer {token}\r\nContent-Type: application/json\r\n");
        self.send(method, path, &more, &body.to_string())
    }

    fn send(&self, method: &str, path: &str, more: &str, body: &str) -> (u16, Value) {
        let mut stream = TcpStream::connect(self.http).expect("HTTP listens");
        stream.set_read_timeout(Some(Duration::from_secs(30))).expect("a time-out");
        let head = format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\n{more}");
        let length = body.len();
        let end = format!("Connection: close\r\nContent-Length: {length}\r\n\r\n");
        write!(stream, "{head}{end}{body}").expect("it reads");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer");
        let (head, body) = answer.split_once("\r\n\r\n").expect("a whole answer");
        let status = head.split(' ').nth(1).and_then(|word| word.parse().ok());
        (status.expect("a status"), serde_json::from_str(body).unwrap_or(Value::Null))
    }

    pub(crate) fn end(mut self) -> (Option<i32>, String) {
        let mut rest = String::new();
        self.stdout.read_to_string(&mut rest).expect("text");
        let mut log = String::new();
        self.stderr.read_to_string(&mut log).expect("text");
        (self.child.wait().expect("it ends").code(), log)
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        // A test that failed leaves no process behind; one that ended cannot be ended twice.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

pub(crate) fn write_config(folder: &Path, sip: u16, more: &str) {
    write_config_with(folder, sip, 23_999, more);
}

/// With more ports for media: those of a call rest for half a minute.
pub(crate) fn write_config_with(folder: &Path, sip: u16, last_port: u16, more: &str) {
    let text = format!(
        "http_addr = \"127.0.0.1:0\"\nrtp_start_port = 23000\nrtp_end_port = {last_port}\n[proxy]\n\
         addr = \"127.0.0.1\"\nudp_port = {sip}\ntcp_port = {sip}\n{more}"
    );
    std::fs::write(folder.join("ringgate.toml"), text).expect("the folder is writable");
}
