//! The gateway as an integrator runs it: the program, one configuration file, its own folder.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use loadtest::gateway::{Folder, spare_port};
use loadtest::process::Running;
use serde_json::Value;
use shared::config::TOKEN_SCOPES;

use super::agent::{Agent, DOMAIN};
use super::client::Client;
use super::{SOON, until};

const START: Duration = Duration::from_secs(40);

/// What goes into the configuration file besides ports and paths.
#[derive(Clone, Debug, Default)]
pub(crate) struct Setup {
    /// Lines of the `[proxy]` section.
    pub(crate) proxy: String,
    /// Whole sections.
    pub(crate) sections: String,
    /// Domains besides `pbx.com`.
    pub(crate) realms: Vec<&'static str>,
    /// Further API tokens: the token and its scopes.
    pub(crate) tokens: Vec<(&'static str, Vec<&'static str>)>,
}

impl Setup {
    /// With these users in the file, each with the password `secret-NAME`.
    pub(crate) fn with_users(users: &[&str]) -> Self {
        let one =
            |name: &&str| format!("{{ username = \"{name}\", password = \"secret-{name}\" }}");
        let users: Vec<String> = users.iter().map(one).collect();
        let text = "[[proxy.user_backends]]\ntype = \"memory\"\nusers = [";
        Self::default().section(&format!("{text}{}]\n", users.join(", ")))
    }

    pub(crate) fn section(mut self, text: &str) -> Self {
        self.sections += text;
        self.sections.push('\n');
        self
    }

    /// Calls need no password, so that a test is about something else.
    pub(crate) fn open(mut self) -> Self {
        self.proxy += "modules = [\"acl\", \"registrar\", \"call\"]\n";
        self
    }

    pub(crate) fn token(mut self, token: &'static str, scopes: &[&'static str]) -> Self {
        self.tokens.push((token, scopes.to_vec()));
        self
    }

    fn text(&self, folder: &str, sip: u16, http: u16, token: &str) -> String {
        // Below the ephemeral ports of the kernel; gateways of other tests draw theirs likewise.
        let first = 12_000 + 2 * (rand::random::<u16>() % 9_000);
        let scopes = |scopes: &[&str]| format!("{scopes:?}");
        let mut tokens =
            vec![format!("{{ token = \"{token}\", scopes = {} }}", scopes(&TOKEN_SCOPES))];
        for (token, some) in &self.tokens {
            tokens.push(format!("{{ token = \"{token}\", scopes = {} }}", scopes(some)));
        }
        let realms = [&[DOMAIN][..], &self.realms].concat();
        format!(
            "http_addr = \"127.0.0.1:{http}\"\ndata_dir = \"{folder}/data\"\n\
             rtp_start_port = {first}\nrtp_end_port = {}\n\n[proxy]\naddr = \"127.0.0.1\"\n\
             udp_port = {sip}\ntcp_port = {sip}\nrealms = {realms:?}\n\
             digest_algorithms = [\"MD5\"]\n{}\n{}\n[dataplane]\ncores = \"0\"\n\n[console]\n\
             api_tokens = [{}]\n",
            first + 400,
            self.proxy,
            self.sections,
            tokens.join(", ")
        )
    }
}

pub(crate) struct Gate {
    process: Running,
    pub(crate) folder: Folder,
    pub(crate) sip: SocketAddr,
    pub(crate) http: SocketAddr,
    /// May do everything.
    pub(crate) client: Client,
}

impl Gate {
    pub(crate) async fn start(setup: &Setup) -> Self {
        Self::start_with(setup, |_| {}).await
    }

    /// `prepare` puts more files into the folder before the program starts there.
    pub(crate) async fn start_with(setup: &Setup, prepare: impl FnOnce(&Path)) -> Self {
        let folder = Folder::new("guide").expect("a folder");
        let local = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let (sip, http) = (spare_port(local).expect("a port"), spare_port(local).expect("a port"));
        let token = format!("{:032x}", rand::random::<u128>());
        let text = setup.text(&folder.path.display().to_string(), sip, http, &token);
        let file = folder.path.join("ringgate.toml");
        fs::write(&file, &text).expect("the folder is writable");
        prepare(&folder.path);
        let mut command = Command::new(env!("CARGO_BIN_EXE_ringgate"));
        command.arg("--config").arg(&file).arg("serve").current_dir(&folder.path);
        let log = folder.path.join("ringgate.log");
        let process = Running::start("ringgate", &mut command, &log).expect("it starts");
        let http = SocketAddr::new(local, http);
        let mut gate = Self {
            process,
            folder,
            sip: SocketAddr::new(local, sip),
            http,
            client: Client::new(http, Some(&token)),
        };
        gate.await_running(&text).await;
        gate
    }

    async fn await_running(&mut self, config: &str) {
        let give_up_at = tokio::time::Instant::now() + START;
        let mut ticks = tokio::time::interval(Duration::from_millis(50));
        loop {
            ticks.tick().await;
            if tokio::net::TcpStream::connect(self.http).await.is_ok()
                && self.client.get("/readyz").await.status == 200
            {
                return;
            }
            let late = tokio::time::Instant::now() >= give_up_at;
            assert!(
                self.process.is_running() && !late,
                "the gateway is not up: {}\n{config}",
                self.process.tail()
            );
        }
    }

    pub(crate) async fn agent(&self, user: &str) -> Agent {
        Agent::bind(self.sip, user, &format!("secret-{user}")).await
    }

    /// An agent that is registered.
    pub(crate) async fn phone(&self, user: &str) -> Agent {
        let mut agent = self.agent(user).await;
        let answer = agent.register(300).await;
        assert_eq!(answer.status(), 200, "{answer:?}");
        agent
    }

    /// The CDR of the call that has a leg with this Call-ID.
    pub(crate) async fn record(&self, call_id: &str) -> Value {
        let path = format!("/console/call-records/{call_id}");
        until(&format!("CDR of {call_id}"), SOON, async || {
            let answer = self.client.get(&path).await;
            (answer.status == 200).then(|| super::shape::object(&answer.json()).clone())
        })
        .await
    }

    /// The one standing call.
    pub(crate) async fn standing(&self) -> Value {
        let listed = self.client.get("/console/calls/active").await.expect(&[200]).json();
        let calls = super::shape::list(&listed);
        assert_eq!(calls.len(), 1, "{listed}");
        calls[0].clone()
    }

    /// What the program printed and logged.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(&self.process.log).expect("a log")
    }

    pub(crate) fn is_running(&mut self) -> bool {
        self.process.is_running()
    }

    pub(crate) fn exit_code(&mut self, limit: Duration) -> Option<i32> {
        self.process.wait(limit).expect("it ends").code()
    }
}
