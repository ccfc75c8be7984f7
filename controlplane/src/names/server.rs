//! The name servers that are asked: those of the system, or those that the configuration names.
//! Owns:  the resolver with its cache.
//! Gives: `Records`.
//! Never: waits longer than `QUESTION_TIMEOUT` for one try; takes the refusal of one server (SERVFAIL,
//!        REFUSED) for an answer as long as another may know.
//! Holds: what a server answered is used no longer than it allows.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join;
use hickory_resolver::TokioResolver;
use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolverConfig, ResolverOpts};
use hickory_resolver::lookup::Lookup;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::rr::{Name, RData, RecordType};
use hickory_resolver::system_conf::read_system_conf;

use super::{ASK_AGAIN, Answer, Asking, KNOWN_MAX, Missing, Naptr, Records, Srv};

const QUESTION_TIMEOUT: Duration = Duration::from_secs(1);
/// Tries of one question after the first.
const ATTEMPTS: usize = 2;
/// Servers that are asked one by one when one of all has refused; `/etc/resolv.conf` has three at most.
const ALONE_MAX: usize = 4;
/// Names that a service may be an alias of, one behind the other, beyond those that the resolver follows.
const ALIASES_MAX: usize = 5;
/// "There is no such record" is believed so long at most: a carrier adds one, and waits for us.
const UNKNOWN_MAX: Duration = Duration::from_secs(60);

/// Cheap to clone; the cache is shared.
#[derive(Clone)]
pub struct NameServers {
    resolver: TokioResolver,
    /// Each of several by itself.
    alone: Arc<[TokioResolver]>,
    servers: Vec<SocketAddr>,
}

impl std::fmt::Debug for NameServers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("NameServers").field(&self.servers).finish()
    }
}

impl NameServers {
    /// Empty: those of the system (`/etc/resolv.conf`). The error is one line.
    pub fn new(servers: &[SocketAddr]) -> Result<Self, String> {
        // A host without a name server still has /etc/hosts.
        let (config, options) = if servers.is_empty() {
            read_system_conf().unwrap_or_default()
        } else {
            let named = servers.iter().map(name_server).collect();
            (ResolverConfig::from_name_servers(named), ResolverOpts::default())
        };
        let built = |config: ResolverConfig| {
            let provider = TokioRuntimeProvider::default();
            let mut builder = TokioResolver::builder_with_config(config, provider);
            *builder.options_mut() = options.clone();
            bounded(builder).build().map_err(|error| format!("name servers: {error}"))
        };
        let (domain, search, all) = config.clone().into_parts();
        let one = |server| {
            built(ResolverConfig::from_parts(domain.clone(), search.clone(), vec![server]))
        };
        let each = if all.len() > 1 { all } else { Vec::new() };
        let alone: Result<Vec<_>, _> = each.into_iter().take(ALONE_MAX).map(one).collect();
        Ok(Self { resolver: built(config)?, alone: alone?.into(), servers: servers.to_vec() })
    }

    fn services(&self, name: String) -> Asking<Srv> {
        self.ask(name, RecordType::SRV, |data| match data {
            RData::SRV(srv) => Some(Srv {
                priority: srv.priority,
                weight: srv.weight,
                port: srv.port,
                target: srv.target.to_ascii(),
            }),
            _ => None,
        })
    }

    fn alias(&self, name: String) -> Asking<String> {
        self.ask(name, RecordType::CNAME, |data| match data {
            RData::CNAME(name) => Some(name.0.to_ascii()),
            _ => None,
        })
    }

    fn ask<T: Send + 'static>(
        &self,
        name: String,
        kind: RecordType,
        read: impl Fn(&RData) -> Option<T> + Send + 'static,
    ) -> Asking<T> {
        let (resolver, alone) = (self.resolver.clone(), Arc::clone(&self.alone));
        Box::pin(async move {
            let name = whole(&name)?;
            let mut found = resolver.lookup(name.clone(), kind).await;
            for other in alone.iter() {
                if !found.as_ref().is_err_and(is_refusal) {
                    break;
                }
                found = other.lookup(name.clone(), kind).await;
            }
            let found: Lookup = found.map_err(missing)?;
            let records = found.answers().iter().filter_map(|record| read(&record.data)).collect();
            some(Answer { records, valid: valid(found.valid_until()) })
        })
    }
}

impl Records for NameServers {
    fn naptr(&self, name: String) -> Asking<Naptr> {
        self.ask(name, RecordType::NAPTR, |data| match data {
            RData::NAPTR(naptr) => Some(Naptr {
                order: naptr.order,
                preference: naptr.preference,
                flags: String::from_utf8_lossy(&naptr.flags).into_owned(),
                service: String::from_utf8_lossy(&naptr.services).into_owned(),
                replacement: naptr.replacement.to_ascii(),
            }),
            _ => None,
        })
    }

    /// The owner may be an alias. The resolver misses records that come in one answer with it, since it
    /// takes their target for the next name to look for: then the alias is followed here.
    fn srv(&self, name: String) -> Asking<Srv> {
        let servers = self.clone();
        Box::pin(async move {
            let (mut name, mut most) = (name, KNOWN_MAX);
            for _ in 0..ALIASES_MAX {
                match servers.services(name.clone()).await {
                    Err(Missing::Unknown) => {}
                    Ok(Answer { records, valid }) => {
                        return Ok(Answer { records, valid: valid.min(most) });
                    }
                    Err(failed) => return Err(failed),
                }
                // Whoever cannot say has not said that there is one.
                let Ok(alias) = servers.alias(name).await else { break };
                let Some(next) = alias.records.into_iter().next() else { break };
                (name, most) = (next, most.min(alias.valid));
            }
            Err(Missing::Unknown)
        })
    }

    fn addresses(&self, name: String) -> Asking<IpAddr> {
        let v4 = self.ask(name.clone(), RecordType::A, |data| match data {
            RData::A(ip) => Some(IpAddr::V4(ip.0)),
            _ => None,
        });
        let v6 = self.ask(name, RecordType::AAAA, |data| match data {
            RData::AAAA(ip) => Some(IpAddr::V6(ip.0)),
            _ => None,
        });
        Box::pin(async move {
            let (v4, v6) = join(v4, v6).await;
            both_families(v4, v6)
        })
    }
}

/// A name with a dot is written as a whole; only one without is looked for in the host's own domains.
fn whole(text: &str) -> Result<Name, Missing> {
    let name = Name::from_ascii(text);
    let mut name = name.map_err(|error| Missing::Failed(format!("is no name: {error}")))?;
    if name.num_labels() > 1 {
        name.set_fqdn(true);
    }
    Ok(name)
}

/// A host may be without one family. When IPv4 is not known the answer is none, since its absence would
/// look like a move; when IPv6 is not, it is asked for again soon.
fn both_families(
    v4: Result<Answer<IpAddr>, Missing>,
    v6: Result<Answer<IpAddr>, Missing>,
) -> Result<Answer<IpAddr>, Missing> {
    match (v4, v6) {
        (Err(failed @ Missing::Failed(_)), _) => Err(failed),
        (Err(Missing::Unknown), v6) => v6,
        (Ok(v4), Err(Missing::Unknown)) => Ok(v4),
        (Ok(Answer { records, valid }), Err(Missing::Failed(_))) => {
            Ok(Answer { records, valid: valid.min(ASK_AGAIN) })
        }
        (Ok(mut v4), Ok(v6)) => {
            v4.records.extend(v6.records);
            Ok(Answer { valid: v4.valid.min(v6.valid), ..v4 })
        }
    }
}

fn name_server(at: &SocketAddr) -> NameServerConfig {
    let with_port = |mut connection: ConnectionConfig| {
        connection.port = at.port();
        connection
    };
    let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()].map(with_port).into();
    // Another server may know what the first one does not.
    NameServerConfig::new(at.ip(), false, connections)
}

type Builder = hickory_resolver::ResolverBuilder<TokioRuntimeProvider>;

fn bounded(mut builder: Builder) -> Builder {
    let options: &mut ResolverOpts = builder.options_mut();
    options.timeout = QUESTION_TIMEOUT;
    options.attempts = ATTEMPTS;
    options.negative_max_ttl = Some(UNKNOWN_MAX);
    options.positive_max_ttl = Some(KNOWN_MAX);
    builder
}

fn some<T>(answer: Answer<T>) -> Result<Answer<T>, Missing> {
    if answer.records.is_empty() { Err(Missing::Unknown) } else { Ok(answer) }
}

fn valid(until: std::time::Instant) -> Duration {
    until.saturating_duration_since(std::time::Instant::now())
}

/// The server is there and does not say: SERVFAIL, REFUSED. The resolver takes that for the last word.
const fn is_refusal(error: &NetError) -> bool {
    matches!(error, NetError::Dns(DnsError::ResponseCode(_)))
}

fn missing(error: NetError) -> Missing {
    if error.is_nx_domain() || error.is_no_records_found() {
        Missing::Unknown
    } else {
        Missing::Failed(format!("cannot be resolved: {error}"))
    }
}
