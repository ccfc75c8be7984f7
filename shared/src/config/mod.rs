//! The configuration: TOML and environment in, a checked `Config` or every problem out.
//! Owns:  the keys, the file form (`file`, serde), the checked form (private fields).
//! Gives: `load`: all problems in one pass, each with file, line, key and a suggestion.
//! Never: reads a file, the environment or a name server; the caller brings what was read.
//! Holds: a `Config` exists only when nothing is wrong with it: holding one is the proof.

mod access;
mod account;
mod acl;
mod cores;
mod database;
mod deciders;
mod dns;
mod edge;
mod effective;
mod env;
mod events;
mod file;
mod files;
mod included;
mod keys;
mod original;
mod problem;
mod routes;
mod rules;
mod secret;
mod sip;
mod sipflow;
mod storage;
mod tls;
mod toll;
mod tree;
mod trunk_options;
mod trunks;
mod users;
mod web;
mod webhooks;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use serde::Deserialize;
use url::Url;

pub use access::{ApiToken, Http, Network, OWN_API_PREFIX, TOKEN_SCOPES};
pub use cores::{ControlCpus, Dataplane, ShardCpus, parse_list};
pub use database::{Database, DatabasePool, DatabaseUrl};
pub use deciders::{
    HttpRouter, HttpUsers, RemoteBackend, TABLE_TIMEOUT, TableLayout, TableUsers, UserSource,
};
pub use effective::{Effective, Row};
pub use env::ENV_PREFIX;
pub use events::{CallRecordPush, LocatorWebhook};
pub use files::{Files, Recording};
pub use included::ReadFiles;
pub use keys::Use;
pub use problem::{Origin, Problem};
pub use routes::RouteConfig;
pub(crate) use rules::nearest;
pub use secret::{ReadSecret, SecretRef};
pub use sip::{REALM_DEFAULT, Sip};
pub use sipflow::KeptMessages;
pub use storage::{
    Archive, Bucket, DiskRules, RecordingsArchive, RecordsArchive, Retention, WhenFull,
};
pub use tls::TlsListener;
pub use trunks::{HostPort, TrunkConfig, TrunkSource, is_trunk_name, parse_dest};
pub use users::{Backend, parse_hex};
pub use web::WebListener;
pub use webhooks::{SigningKey, WebHeader, WebTarget, Webhooks, check_web_header, parse_web_url};

use crate::acl::Acl;
use crate::edge::EdgeRules;
use crate::event::Severity;
use crate::forwarding::Redirects;
use crate::route::Emergency;
use crate::settings::{PortSlice, TlsFiles};
use crate::snapshot::RemoteUsers;
use crate::toll::TollRules;
use file::ConfigFile;
use problem::Report;
use rules::{Rules, Walk};
use tree::{Node, Value};

/// What a configuration is made from.
pub struct Sources<'a> {
    /// Name for messages, and text. Without a file the defaults and the environment hold.
    pub file: Option<(&'a str, &'a str)>,
    /// Variables of the process; those without our prefix are left alone.
    pub env: Vec<(String, String)>,
    pub read_secret: &'a ReadSecret<'a>,
    /// Unknown keys are errors.
    pub strict: bool,
}

impl std::fmt::Debug for Sources<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let name = self.file.map(|(name, _)| name);
        f.debug_struct("Sources").field("file", &name).field("strict", &self.strict).finish()
    }
}

/// What came of it.
#[derive(Debug)]
pub struct Loaded {
    /// Not there when there is an error among the problems.
    pub config: Option<Config>,
    /// In the order of the file; the environment after it.
    pub problems: Vec<Problem>,
    pub effective: Effective,
}

/// A configuration that passed every check.
#[derive(Clone, Debug)]
pub struct Config {
    http: Http,
    files: Files,
    sip: Sip,
    external_ip: Vec<IpAddr>,
    rtp_ports: PortSlice,
    dataplane: Dataplane,
    backends: Vec<Backend>,
    acl: Acl,
    edge: Arc<EdgeRules>,
    trunks: Vec<TrunkConfig>,
    webhooks: Webhooks,
    http_router: Option<HttpRouter>,
    locator_webhook: Option<LocatorWebhook>,
    routes: Vec<RouteConfig>,
    emergency: Option<Emergency>,
    toll: Option<Arc<TollRules>>,
    redirects: Redirects,
    call_record_push: Option<CallRecordPush>,
    archive: Archive,
    messages: Option<KeptMessages>,
    tls: Option<TlsListener>,
    dns_servers: Vec<SocketAddr>,
    web: WebListener,
}

impl Config {
    pub const fn http(&self) -> &Http {
        &self.http
    }

    pub const fn files(&self) -> &Files {
        &self.files
    }

    pub const fn sip(&self) -> &Sip {
        &self.sip
    }

    /// At most one per family.
    pub fn external_ip(&self) -> &[IpAddr] {
        &self.external_ip
    }

    /// The whole range; shards get slices of it.
    pub const fn rtp_ports(&self) -> PortSlice {
        self.rtp_ports
    }

    pub const fn dataplane(&self) -> &Dataplane {
        &self.dataplane
    }

    /// In the order in which they are asked.
    pub fn backends(&self) -> &[Backend] {
        &self.backends
    }

    /// Sources that may send requests; trunks may in any case.
    pub const fn acl(&self) -> &Acl {
        &self.acl
    }

    /// What strangers may do.
    pub const fn edge(&self) -> &Arc<EdgeRules> {
        &self.edge
    }

    /// Those of them that have to be asked, with their places in the chain.
    pub fn remote_backends(&self) -> impl Iterator<Item = (usize, &RemoteBackend)> {
        self.backends.iter().enumerate().filter_map(|(place, backend)| match backend {
            Backend::Remote(remote) => Some((place, &**remote)),
            Backend::Extensions | Backend::Memory(_) => None,
        })
    }

    /// How the shards wait for them, when there are any.
    pub fn remote_users(&self) -> Option<RemoteUsers> {
        deciders::chain_rules(self.remote_backends())
    }

    pub fn trunks(&self) -> &[TrunkConfig] {
        &self.trunks
    }

    pub const fn archive(&self) -> &Archive {
        &self.archive
    }

    /// `None`: the messages of calls are not kept.
    pub const fn messages(&self) -> Option<&KeptMessages> {
        self.messages.as_ref()
    }

    /// Empty: the name servers of the system.
    pub fn dns_servers(&self) -> &[SocketAddr] {
        &self.dns_servers
    }

    pub const fn web(&self) -> &WebListener {
        &self.web
    }

    /// What every TLS listener proves itself with; `None` where there is no such listener.
    pub fn tls_files(&self) -> Option<&TlsFiles> {
        self.tls.as_ref().map(|tls| &tls.files).or(self.web.files.as_ref())
    }

    /// `None`: nothing goes over TLS.
    pub const fn tls(&self) -> Option<&TlsListener> {
        self.tls.as_ref()
    }

    pub const fn webhooks(&self) -> &Webhooks {
        &self.webhooks
    }

    pub const fn http_router(&self) -> Option<&HttpRouter> {
        self.http_router.as_ref()
    }

    pub const fn locator_webhook(&self) -> Option<&LocatorWebhook> {
        self.locator_webhook.as_ref()
    }

    pub const fn call_record_push(&self) -> Option<&CallRecordPush> {
        self.call_record_push.as_ref()
    }

    /// Every URL that this configuration wants to be called: the only ones that may lie in our own
    /// network.
    pub fn named_urls(&self) -> impl Iterator<Item = &Url> {
        let hook = self.locator_webhook.iter().map(|hook| &hook.target.url);
        let push = self.call_record_push.iter().map(|push| &push.target.url);
        let router = self.http_router.iter().map(|router| &router.target.url);
        let users = self.remote_backends().filter_map(|(_, backend)| match &backend.source {
            UserSource::Http(http) => Some(&http.target.url),
            UserSource::Table(_) => None,
        });
        hook.chain(push).chain(router).chain(users).chain(self.archive.form_url())
    }

    /// As they were written, file after file.
    pub fn routes(&self) -> &[RouteConfig] {
        &self.routes
    }

    pub const fn redirects(&self) -> Redirects {
        self.redirects
    }

    /// `[proxy.toll_fraud]`, when it is enabled.
    pub const fn toll(&self) -> Option<&Arc<TollRules>> {
        self.toll.as_ref()
    }

    pub const fn emergency(&self) -> Option<&Emergency> {
        self.emergency.as_ref()
    }

    /// The same with the sources that another configuration admits, and what strangers and accounts may
    /// do.
    #[must_use]
    pub fn with_acl_of(&self, other: &Self) -> Self {
        let (acl, edge, toll) = (other.acl.clone(), Arc::clone(&other.edge), other.toll.clone());
        Self { acl, edge, toll, ..self.clone() }
    }

    /// The same with the dial plan of another configuration.
    #[must_use]
    pub fn with_routes_of(&self, other: &Self) -> Self {
        let (routes, emergency) = (other.routes.clone(), other.emergency.clone());
        Self { routes, emergency, redirects: other.redirects, ..self.clone() }
    }

    /// The same with the trunks of another configuration.
    #[must_use]
    pub fn with_trunks_of(&self, other: &Self) -> Self {
        Self { trunks: other.trunks.clone(), ..self.clone() }
    }

    fn check(file: ConfigFile, read: &ReadSecret<'_>, report: &mut Report<'_>) -> Self {
        let http = Http::check(&file, read, report);
        let files = Files::check(&file, read, report);
        let rtp_ports = files::rtp_ports(&file, report);
        let external_ip = files::external_ip(file.external_ip.as_deref(), report);
        let dataplane = Dataplane::check(&file.dataplane, report);
        let sip = Sip::check(&file.proxy, dataplane.media_lock(), report);
        let mut tls = TlsListener::check(&file, sip.tcp_port(), report);
        let dns_servers = dns::check(&file.dns, report);
        let web = WebListener::check(&file, sip.tcp_port(), report);
        for port in sip.udp_ports() {
            if (rtp_ports.first..=rtp_ports.last).contains(port) {
                let text = format!("{port} lies in the RTP range: media takes the ports around it");
                report.warning("proxy.udp_port", text);
            }
        }
        let (rules, modules) = (&file.proxy.acl_rules, &file.proxy.modules);
        let acl = acl::check(rules.as_deref(), modules.as_deref(), report);
        let edge = Arc::new(edge::check(&file.proxy, report));
        let archive = Archive::check(&file, files.folder(), read, report);
        let messages = KeptMessages::check(&file.sipflow, files.folder(), report);
        let backends = users::check(file.proxy.user_backends, sip.realm(), read, report);
        let trunks = trunks::check(file.proxy.trunks, read, report);
        let asks = tls.as_ref().is_some_and(|tls| !tls.files.client_authorities.is_empty());
        let clients = trunk_options::check_tls(&trunks, tls.is_some(), asks, report);
        if let Some(tls) = &mut tls {
            tls.files.clients = clients;
        }
        let webhooks = Webhooks::check(&file.webhooks, read, report);
        let locator_webhook = file.proxy.locator_webhook.as_ref();
        let locator_webhook =
            locator_webhook.and_then(|hook| LocatorWebhook::check(hook, read, report));
        let http_router = file.proxy.http_router.as_ref();
        let http_router = http_router.and_then(|router| HttpRouter::check(router, read, report));
        let routes = routes::check(file.proxy.routes.unwrap_or_default(), &trunks, report);
        let emergency = routes::emergency(file.proxy.emergency, report);
        let toll = toll::check(file.proxy.toll_fraud.as_ref(), report);
        let redirects = file.proxy.follow_redirects.as_deref().and_then(Redirects::parse);
        let call_record_push = CallRecordPush::check(&file.callrecord, read, report);
        Self {
            http,
            files,
            sip,
            external_ip,
            rtp_ports,
            dataplane,
            backends,
            acl,
            edge,
            trunks,
            webhooks,
            http_router,
            locator_webhook,
            routes,
            emergency,
            toll,
            redirects: redirects.unwrap_or_default(),
            call_record_push,
            archive,
            messages,
            tls,
            dns_servers,
            web,
        }
    }
}

/// Reads, merges and checks. Every problem is found in one pass. Files that the configuration names
/// are not there.
pub fn load(sources: &Sources<'_>) -> Loaded {
    load_with(sources, &|_| Err("files cannot be read here".to_owned()))
}

/// The same, with a reader for the files that the configuration names.
pub fn load_with(sources: &Sources<'_>, read_files: &ReadFiles<'_>) -> Loaded {
    let (mut tree, mut problems) = match sources.file {
        Some((name, text)) => tree::parse(name, text),
        None => (Node::default(), Vec::new()),
    };
    let rules = Rules::known();
    let overlaid = env::overlay(&mut tree, &rules, &sources.env);
    problems.extend(included::merge(&mut tree, read_files));
    let syntax = problems.iter().filter(|problem| problem.key.is_empty());
    let broken: Vec<Origin> = syntax.map(|problem| problem.origin.clone()).collect();
    problems.extend(overlaid);
    recording_alias(&mut tree, &mut problems);
    let mut walk = Walk { root: &rules, strict: sources.strict, problems };
    walk.check(&mut tree);
    let mut problems = walk.problems;

    let mut report = Report::new(&tree, sources.strict);
    let file = ConfigFile::deserialize(tree.to_toml()).unwrap_or_else(|error| {
        report.error("", error.to_string().replace('\n', " "));
        ConfigFile::default()
    });
    let config = Config::check(file, sources.read_secret, &mut report);
    problems.extend(report.into_problems());
    // What a broken line seems to say is not worth a second message.
    problems.retain(|problem| problem.key.is_empty() || !broken.contains(&problem.origin));
    problems.sort_by_key(place);

    let refused = problems.iter().any(|problem| problem.severity == Severity::Error);
    let effective = Effective::of(&tree, &rules);
    Loaded { config: (!refused).then_some(config), problems, effective }
}

/// The original reads `[proxy.recording]` too.
fn recording_alias(tree: &mut Node, problems: &mut Vec<Problem>) {
    let Value::Table(root) = &mut tree.value else { return };
    let Some(Value::Table(proxy)) = root.get_mut("proxy").map(|node| &mut node.value) else {
        return;
    };
    let Some(alias) = proxy.remove("recording") else { return };
    if root.contains_key("recording") {
        problems.push(Problem {
            severity: Severity::Warning,
            origin: alias.origin,
            key: "proxy.recording".to_owned(),
            text: "[recording] is there too and decides".to_owned(),
            suggestion: Some("keep one of them".to_owned()),
        });
    } else {
        root.insert("recording".to_owned(), alias);
    }
}

/// File lines in order, then the environment, then what was not written.
fn place(problem: &Problem) -> (u8, u32, String) {
    let (rank, line) = match &problem.origin {
        Origin::File { line, .. } => (0, *line),
        Origin::Env(_) => (1, 0),
        Origin::Default => (2, 0),
    };
    (rank, line, problem.key.clone())
}
