//! SIPp as a peer: scenario files with a few placeholders, runs with a deadline.
//! Owns:  a working folder per run with the scenario, the tone files and SIPp's logs.
//! Gives: `Sipp`, a running SIPp; its exit, its Call-IDs, the messages it saw.
//! Never: a scenario that needs TLS or SHA-256: Debian's build has neither.
//! Holds: SIPp ends by itself after its calls, or is ended when dropped.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::gateway::Folder;
use crate::process::Running;
use crate::{text, tones};

/// What SIPp writes above each message.
const RULE: &str = "-----------------------------------------------";

/// How to run one scenario of the `sipp` folder.
#[derive(Clone, Debug)]
pub struct Run {
    scenario: String,
    text: String,
    arguments: Vec<String>,
}

impl Run {
    /// `name` without `.xml`. `<?part x?>` stands for the text of `parts/x.xml`.
    pub fn new(name: &str) -> Self {
        let mut text = scenario(name);
        while let Some((before, rest)) = text.split_once("<?part ") {
            let (part, after) = rest.split_once("?>").expect("a part ends with ?>");
            text = format!("{before}{}{after}", scenario(&format!("parts/{part}")).trim());
        }
        Self { scenario: name.to_owned(), text, arguments: Vec::new() }
    }

    /// Replaces the placeholder `%NAME%` of the scenario.
    pub fn with(mut self, name: &str, value: impl ToString) -> Self {
        self.text = self.text.replace(&format!("%{name}%"), &value.to_string());
        self
    }

    /// Asks for a user of another host than the gateway: a trunk.
    pub fn to_host(mut self, host: &str) -> Self {
        self.text = self
            .text
            .replace("sip:[service]@[remote_ip]:[remote_port]", &format!("sip:[service]@{host}"));
        self
    }

    /// Speaks no tone. All streams of SIPp have one SSRC: a phone that heard one takes the next for its late packets.
    pub fn silent(mut self) -> Self {
        let lines = self.text.lines().filter(|line| !line.contains("rtp_stream="));
        self.text = lines.map(|line| format!("{line}\n")).collect();
        self
    }

    /// One more line in every INVITE of a caller's scenario.
    pub fn in_invites(mut self, line: &str) -> Self {
        for number in [1, 2] {
            let cseq = format!("CSeq: {number} INVITE\n");
            self.text = self.text.replace(&cseq, &format!("{cseq}{line}\n"));
        }
        self
    }

    pub fn argument(mut self, name: &str, value: impl ToString) -> Self {
        self.arguments.extend([name.to_owned(), value.to_string()]);
        self
    }

    /// A keyword of the scenario, `[name]`.
    pub fn key(self, name: &str, value: impl ToString) -> Self {
        let mut run = self;
        run.arguments.extend(["-key".to_owned(), name.to_owned(), value.to_string()]);
        run
    }

    /// The credentials of `[authentication]`.
    pub fn credentials(self, user: &str, password: &str) -> Self {
        self.argument("-au", user).argument("-ap", password)
    }

    pub fn calls(self, count: u32) -> Self {
        self.argument("-m", count)
    }

    pub fn tcp(self) -> Self {
        self.argument("-t", "t1")
    }

    /// Starts SIPp on `local` towards `gateway`.
    pub fn start(self, local: SocketAddr, gateway: SocketAddr) -> Result<Sipp, String> {
        if let Some(name) = placeholder(&self.text) {
            return Err(format!("{}: nothing was given for %{name}%", self.scenario));
        }
        let folder = Folder::new("sipp")?;
        let write = |error: std::io::Error| format!("{}: {error}", folder.path.display());
        fs::write(folder.path.join("scenario.xml"), &self.text).map_err(write)?;
        tones::write_ulaw(&folder.path, 440).map_err(write)?;
        tones::write_ulaw(&folder.path, 1_000).map_err(write)?;
        let mut command = Command::new("sipp");
        command
            .arg(gateway.to_string())
            .args([
                "-sf",
                "scenario.xml",
                "-nostdin",
                "-trace_msg",
                "-message_file",
                "messages.log",
            ])
            .args(["-trace_err", "-error_file", "errors.log"])
            .args(["-i", &local.ip().to_string(), "-p", &local.port().to_string()])
            .args(&self.arguments)
            .current_dir(&folder.path);
        let log = folder.path.join("sipp.log");
        let process = Running::start(&format!("sipp {}", self.scenario), &mut command, &log)?;
        Ok(Sipp { process, folder })
    }

    /// Starts SIPp and waits for its end, which must be a success.
    pub fn complete(
        self,
        local: SocketAddr,
        gateway: SocketAddr,
        limit: Duration,
    ) -> Result<Transcript, String> {
        self.start(local, gateway)?.succeed(limit)
    }
}

fn scenario(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("sipp").join(format!("{name}.xml"));
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The first `%NAME%` that nobody filled in.
fn placeholder(text: &str) -> Option<&str> {
    let name =
        |word: &&str| !word.is_empty() && word.bytes().all(|b| b.is_ascii_uppercase() || b == b'_');
    text.split('%').skip(1).find(name)
}

#[derive(Debug)]
pub struct Sipp {
    process: Running,
    folder: Folder,
}

impl Sipp {
    /// Waits for the end: exit 0 means that every call went as the scenario says.
    pub fn succeed(mut self, limit: Duration) -> Result<Transcript, String> {
        let status = self.process.wait(limit).map_err(|error| self.explain(&error))?;
        if !status.success() {
            return Err(self.explain(&format!("{} left with {status}", self.process.name)));
        }
        Ok(self.transcript())
    }

    pub fn is_running(&mut self) -> bool {
        self.process.is_running()
    }

    /// What it saw so far, and said.
    pub fn transcript(&self) -> Transcript {
        Transcript { text: read(&self.folder.path.join("messages.log")) }
    }

    fn explain(&self, what: &str) -> String {
        let errors = read(&self.folder.path.join("errors.log"));
        let messages = read(&self.folder.path.join("messages.log"));
        let cut = messages.len().saturating_sub(6_000);
        let cut = (cut..messages.len()).find(|at| messages.is_char_boundary(*at)).unwrap_or(0);
        format!("{what}\n-- errors\n{errors}\n-- messages\n{}", &messages[cut..])
    }
}

fn read(path: &PathBuf) -> String {
    fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
}

/// What SIPp saw on the wire.
#[derive(Clone, Debug)]
pub struct Transcript {
    pub text: String,
}

impl Transcript {
    /// Values of a header over all messages, in order.
    pub fn values(&self, header: &str) -> Vec<String> {
        let start = format!("{header}: ").to_ascii_lowercase();
        self.text
            .lines()
            .filter(|line| line.to_ascii_lowercase().starts_with(&start))
            .map(|line| line[start.len()..].trim().to_owned())
            .collect()
    }

    /// The Call-ID of the first message.
    pub fn call_id(&self) -> Option<String> {
        self.values("Call-ID").into_iter().next()
    }

    /// How many received messages have a start line that begins so.
    pub fn received(&self, start: &str) -> usize {
        self.count("message received", start)
    }

    pub fn sent(&self, start: &str) -> usize {
        self.count("message sent", start)
    }

    /// The received messages whose start line begins so, whole, with their repeats.
    pub fn all_received<'t>(&'t self, start: &'t str) -> impl Iterator<Item = &'t str> {
        self.all("message received", start)
    }

    pub fn all_sent<'t>(&'t self, start: &'t str) -> impl Iterator<Item = &'t str> {
        self.all("message sent", start)
    }

    fn all<'t>(&'t self, kind: &'t str, start: &'t str) -> impl Iterator<Item = &'t str> {
        self.text.split(RULE).filter_map(move |block| {
            let (head, message) = block.split_once("\n\n")?;
            (head.contains(kind) && message.starts_with(start)).then_some(message)
        })
    }

    /// What NOTIFY told of a transfer, line by line; a repeat tells nothing new.
    pub fn notified(&self) -> Vec<String> {
        let mut lines: Vec<String> =
            self.all_received("NOTIFY ").map(|one| text::body(one).trim().to_owned()).collect();
        lines.dedup();
        lines
    }

    fn count(&self, kind: &str, start: &str) -> usize {
        let mut lines = self.text.lines();
        let mut found = 0;
        while let Some(line) = lines.next() {
            if line.contains(kind) {
                let first = lines.by_ref().find(|line| !line.trim().is_empty());
                found += usize::from(first.is_some_and(|first| first.starts_with(start)));
            }
        }
        found
    }
}
