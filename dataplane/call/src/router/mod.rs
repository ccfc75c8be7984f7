//! Where a call goes: emergency numbers, our own users, trunks by address, then the static routes.
//! Owns:  the order of these, for calls of users and for calls of trunks.
//! Gives: `decide`, the one function behind a call and behind an explanation of one.
//! Never: state; the turns of round robin and the random number come in.
//! Holds: `decide` hears no difference between a call and a trial, so explain equals route.

mod dialled;
mod explain;
mod rewrite;
mod select;
#[cfg(test)]
pub(crate) mod tests;
mod walk;

use std::borrow::Cow;
use std::time::Duration;

use rustc_hash::FxHashMap;
use shared::net::Source;
use shared::route::{Action, Dest, HashKey, Route, RouteDirection, Select};
use shared::snapshot::{Entrance, Trunk};

use crate::b2bua::{Changes, Target};
use crate::desk::Desk;
use crate::entrances;
use crate::gruu;
use crate::hunting::host_target;
use crate::locate::{self, Place};

pub(crate) use dialled::Dialled;
pub(crate) use explain::explain;
pub(crate) use rewrite::write_uri;
use rewrite::{Over, Rewritten};
use select::Draw;
pub(crate) use select::weighted;
use walk::Step;

/// Calls that each round-robin rule sent on, by the rule's name.
pub(crate) type Turns = FxHashMap<Box<str>, u32>;

/// What a decision may look at.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Outlook<'d> {
    pub desk: &'d Desk,
    /// Where the INVITE came from, and at which of our addresses.
    pub from: &'d Source,
    pub turns: &'d Turns,
    pub random: u64,
    /// The registrar has nobody of the dialled name: rules may have an idea.
    pub unregistered: bool,
}

#[derive(Debug)]
pub(crate) enum Decision {
    Refuse(Refusal),
    Trunks(ToTrunks),
    User {
        user: Box<str>,
        changes: Changes,
    },
    /// A user that a backend may know, if the registrar does; the rules otherwise.
    Unlisted {
        user: Box<str>,
    },
}

#[derive(Debug)]
pub(crate) struct Refusal {
    pub status: u16,
    /// Of the rule; the standard phrase otherwise.
    pub reason: Option<Box<str>>,
    /// For people.
    pub because: Cow<'static, str>,
    pub rule: Option<Box<str>>,
}

/// In the order in which they are tried; never empty.
#[derive(Debug)]
pub(crate) struct ToTrunks {
    pub choices: Vec<Choice>,
    /// Limits do not hold it up.
    pub emergency: bool,
    pub rule: Option<Box<str>>,
    /// The rule takes turns, and this call is one.
    pub takes_turn: bool,
}

#[derive(Debug)]
pub(crate) struct Choice {
    pub trunk: Box<str>,
    pub target: Target,
    pub changes: Changes,
}

/// What happens on the way to a decision, for whoever explains it.
pub(crate) enum Note<'n> {
    Before(&'static str),
    Rewritten(&'n Rewritten),
    Rule(&'n Route, Step),
}

pub(crate) fn decide(
    outlook: Outlook<'_>,
    dialled: &Dialled<'_>,
    note: &mut dyn FnMut(Note<'_>),
) -> Decision {
    let snapshot = &outlook.desk.snapshot;
    let from_user = dialled.direction != RouteDirection::Inbound;
    if from_user
        && let Some(emergency) = &snapshot.routes.emergency
        && emergency.numbers.iter().any(|number| number.as_bytes() == &*dialled.request.user)
    {
        note(Note::Before("emergency"));
        return to_emergency(outlook, dialled, &emergency.trunk);
    }
    let place = locate::locate(outlook.desk, dialled.request.uri, outlook.from, outlook.random);
    if let (true, Place::User(_) | Place::Trunk { .. }) = (from_user, &place) {
        let user = matches!(place, Place::User(_));
        note(Note::Before(if user { "user" } else { "trunk_address" }));
        return to_place(outlook, dialled, place, Changes::default(), None);
    }
    if let (true, false, Place::Unlisted(user)) = (from_user, outlook.unregistered, &place) {
        // A phone's own address is no number that a rule could know.
        if gruu::phone_of(outlook.desk, dialled.request.uri).is_some() {
            return to_place(outlook, dialled, place, Changes::default(), None);
        }
        return Decision::Unlisted { user: user.clone() };
    }
    // Nothing that a rule could change about a disabled user or a scheme that we do not speak.
    if let (true, Place::Nowhere(status @ (400 | 416 | 480))) = (from_user, &place) {
        return refuse(*status, why(*status));
    }
    let tell = |route: &_, step| note(Note::Rule(route, step));
    match walk::first(&snapshot.routes, dialled, tell) {
        Some(route) => by_rule(outlook, dialled, route, note),
        None if matches!(place, Place::Trunk { .. }) => {
            refuse(403, "from one trunk to another a call goes by a rule only")
        }
        None if from_user && matches!(place, Place::Unlisted(_)) => refuse(480, why(480)),
        None => to_place(outlook, dialled, place, Changes::default(), None),
    }
}

fn by_rule(
    outlook: Outlook<'_>,
    dialled: &Dialled<'_>,
    route: &Route,
    note: &mut dyn FnMut(Note<'_>),
) -> Decision {
    let refuse = |status, reason: Option<Box<str>>, because: Cow<'static, str>| {
        Decision::Refuse(Refusal { status, reason, because, rule: Some(route.name.clone()) })
    };
    match &route.action {
        Action::Busy => refuse(486, None, "the rule says busy".into()),
        Action::NotBuilt(what) => {
            refuse(501, None, format!("the rule asks for \"{what}\", which is not built").into())
        }
        Action::Reject { status, reason } => {
            refuse(*status, reason.clone(), "the rule rejects".into())
        }
        Action::Forward { dests, select } => {
            let Some(rewritten) = rewrite::rewrite(route, dialled) else {
                return refuse(500, None, "a rewritten value cannot be written".into());
            };
            note(Note::Rewritten(&rewritten));
            if dests.is_empty() {
                return to_our_own(outlook, dialled, route, rewritten);
            }
            let choices = choices(outlook, dialled, route, dests, select, &rewritten);
            if choices.is_empty() {
                return refuse(503, None, "no trunk of the rule takes calls".into());
            }
            let takes_turn = *select == Select::RoundRobin && dests.len() > 1;
            let rule = Some(route.name.clone());
            Decision::Trunks(ToTrunks { choices, emergency: false, rule, takes_turn })
        }
    }
}

/// A rule without a trunk delivers the rewritten address as if it had been dialled.
fn to_our_own(
    outlook: Outlook<'_>,
    dialled: &Dialled<'_>,
    route: &Route,
    rewritten: Rewritten,
) -> Decision {
    let (user, host, port) = request_of(dialled, &rewritten);
    let written = !(rewritten.request.is_empty() && rewritten.to.is_empty());
    let uri = if written {
        Cow::Owned(write_uri(&user, &host, port))
    } else {
        Cow::Borrowed(dialled.request.uri)
    };
    let over = |over: &Over, whole: &dialled::Address<'_>| {
        (!over.is_empty()).then(|| {
            let user = over.user.as_deref().unwrap_or(&whole.user);
            let host = over.host.as_deref().unwrap_or(&whole.host);
            write_uri(user, host, over.port.or(whole.port))
        })
    };
    let changes = Changes {
        from_uri: over(&rewritten.from, &dialled.from),
        to_uri: over(&rewritten.to, &dialled.to),
        headers: rewritten.headers,
        ring: route.max_ring,
        is_sips: false,
        phone: None,
    };
    let place = locate::locate(outlook.desk, &uri, outlook.from, outlook.random);
    let made = Some((uri.into_owned(), route.name.clone()));
    to_place(outlook, dialled, place, changes, made)
}

/// `made`: the address that a rule made, and the rule's name.
fn to_place(
    outlook: Outlook<'_>,
    dialled: &Dialled<'_>,
    place: Place,
    mut changes: Changes,
    made: Option<(Vec<u8>, Box<str>)>,
) -> Decision {
    let (uri, rule) = made.map_or((None, None), |(uri, rule)| (Some(uri), Some(rule)));
    match place {
        Place::Nowhere(status) => {
            let because = why(status).into();
            Decision::Refuse(Refusal { status, reason: None, because, rule })
        }
        Place::User(user) | Place::Unlisted(user) => {
            let uri = uri.as_deref().unwrap_or(dialled.request.uri);
            changes.phone = gruu::phone_of(outlook.desk, uri);
            Decision::User { user, changes }
        }
        Place::Trunk { name, way } => {
            let trunks = &outlook.desk.snapshot.trunks;
            let limit = trunks.iter().find(|trunk| trunk.name == name).and_then(|t| t.max_ring);
            changes.ring = changes.ring.or(limit);
            let uri = uri.unwrap_or_else(|| dialled.request.uri.to_vec());
            let target = host_target(&uri, Some(&name), way);
            let Outlook { desk, from, random, .. } = outlook;
            let others = locate::others_of(desk, &target, from, random);
            let choice = |target| Choice { trunk: name.clone(), target, changes: changes.clone() };
            let choices = std::iter::once(target).chain(others).map(choice).collect();
            let choices = only_fit(outlook, choices);
            Decision::Trunks(ToTrunks { choices, emergency: false, rule, takes_turn: false })
        }
    }
}

fn to_emergency(outlook: Outlook<'_>, dialled: &Dialled<'_>, trunk: &str) -> Decision {
    let trunks = &outlook.desk.snapshot.trunks;
    let found = trunks.iter().find(|known| *known.name == *trunk);
    let nothing = Rewritten::default();
    let choices = found.map(|found| ways(outlook, dialled, found, &nothing, None));
    let (mut choices, unfit) = by_fitness(outlook, choices.unwrap_or_default());
    choices.extend(unfit);
    if choices.is_empty() {
        return refuse(503, "the emergency trunk does not take calls");
    }
    Decision::Trunks(ToTrunks { choices, emergency: true, rule: None, takes_turn: false })
}

/// Those that may be called as far as we know, and the others.
fn by_fitness(outlook: Outlook<'_>, choices: Vec<Choice>) -> (Vec<Choice>, Vec<Choice>) {
    let is_fit = |choice: &Choice| {
        let (now, peer) = (outlook.desk.now.mono, choice.target.way.peer);
        outlook.desk.trunks.is_fit(now, &choice.trunk, peer)
    };
    choices.into_iter().partition(is_fit)
}

/// Destinations that rest or are down are left out, unless there is no other.
fn only_fit(outlook: Outlook<'_>, choices: Vec<Choice>) -> Vec<Choice> {
    let (fit, unfit) = by_fitness(outlook, choices);
    if fit.is_empty() { unfit } else { fit }
}

/// The trunks of a rule that can take a call, in the order in which they are to be tried.
fn choices(
    outlook: Outlook<'_>,
    dialled: &Dialled<'_>,
    route: &Route,
    dests: &[Dest],
    select: &Select,
    rewritten: &Rewritten,
) -> Vec<Choice> {
    let trunks = &outlook.desk.snapshot.trunks;
    let found: Vec<Option<&Trunk>> = dests
        .iter()
        .map(|dest| trunks.iter().find(|trunk| trunk.name.eq_ignore_ascii_case(&dest.trunk)))
        .collect();
    let weight = |(dest, trunk): (&Dest, &Option<&Trunk>)| {
        dest.weight.or_else(|| trunk.map(|trunk| trunk.weight)).unwrap_or(0)
    };
    let weights: Vec<u32> = dests.iter().zip(&found).map(weight).collect();
    // A hash keeps every other key on its way when one trunk is down; the other choices are made
    // among those that take calls, so that these share the load as their weights say.
    let is_open = |trunk: &Option<&Trunk>| trunk.is_some_and(|trunk| takes_calls(outlook, trunk));
    let open: Vec<usize> = (0..found.len()).filter(|place| is_open(&found[*place])).collect();
    let places = match select {
        Select::Hash(_) | Select::Sequential => (0..found.len()).collect(),
        _ if open.is_empty() => (0..found.len()).collect(),
        _ => open,
    };
    let weights: Vec<u32> = places.iter().map(|place| weights[*place]).collect();
    let key = match select {
        Select::Hash(HashKey::CallId) => Cow::Borrowed(dialled.call_id),
        Select::Hash(HashKey::Field(field)) => dialled.value(field).unwrap_or_default(),
        _ => Cow::Borrowed(&b""[..]),
    };
    let turn = outlook.turns.get(&route.name).copied().unwrap_or(0);
    let order = select::order(select, &weights, Draw { turn, random: outlook.random, key: &key });
    let trunks = order.into_iter().filter_map(|place| found[places[place]]);
    let ways = trunks.flat_map(|trunk| ways(outlook, dialled, trunk, rewritten, route.max_ring));
    only_fit(outlook, ways.collect())
}

/// Whether some destination of the trunk may be called as far as we know.
fn takes_calls(outlook: Outlook<'_>, trunk: &Trunk) -> bool {
    let Desk { now, trunks, .. } = outlook.desk;
    let is_fit = |entrance: &Entrance| trunks.is_fit(now.mono, &trunk.name, entrance.address);
    trunk.enabled && trunk.direction.takes_calls() && trunk.entrances.iter().any(is_fit)
}

/// The destinations of a trunk that takes calls.
fn ways(
    outlook: Outlook<'_>,
    dialled: &Dialled<'_>,
    trunk: &Trunk,
    rewritten: &Rewritten,
    max_ring: Option<Duration>,
) -> Vec<Choice> {
    if !trunk.enabled || !trunk.direction.takes_calls() {
        return Vec::new();
    }
    let choice = |entrance| choice(outlook, dialled, trunk, entrance, rewritten, max_ring);
    entrances::in_order(trunk, outlook.random).filter_map(choice).collect()
}

/// `None`: none of our listeners reaches the destination.
fn choice(
    outlook: Outlook<'_>,
    dialled: &Dialled<'_>,
    trunk: &Trunk,
    entrance: &Entrance,
    rewritten: &Rewritten,
    max_ring: Option<Duration>,
) -> Option<Choice> {
    let way = locate::way_to(outlook.desk, trunk, entrance, outlook.from)?;
    let (named_host, named_port) = trunk.named(entrance);
    let own = |host: &Option<Vec<u8>>, before: &[u8]| match host {
        Some(host) => host.clone(),
        None if trunk.rewrite_host => named_host.as_bytes().to_vec(),
        None => before.to_vec(),
    };
    let (user, host, mut port) = request_of(dialled, rewritten);
    let written = rewritten.request.host.as_ref().or(rewritten.to.host.as_ref());
    let host = own(&written.cloned(), &host);
    if written.is_none() && trunk.rewrite_host {
        port = named_port.filter(|port| *port != entrance.transport.port());
    }
    let address = |over: &Over, whole: &dialled::Address<'_>| {
        let user = over.user.as_deref().unwrap_or(&whole.user);
        let keeps_port = over.host.is_none() && !trunk.rewrite_host;
        let port = over.port.or_else(|| whole.port.filter(|_| keeps_port));
        write_uri(user, &own(&over.host, &whole.host), port)
    };
    Some(Choice {
        trunk: trunk.name.clone(),
        target: host_target(&write_uri(&user, &host, port), Some(&trunk.name), way),
        changes: Changes {
            from_uri: Some(address(&rewritten.from, &dialled.from)),
            to_uri: Some(address(&rewritten.to, &dialled.to)),
            headers: rewritten.headers.clone(),
            ring: max_ring.or(trunk.max_ring),
            is_sips: false,
            phone: None,
        },
    })
}

/// User, host and port of the Request-URI. A rule that writes over the called number in To means
/// the number that is called, unless it names the Request-URI itself.
fn request_of<'r>(
    dialled: &'r Dialled<'_>,
    rewritten: &'r Rewritten,
) -> (Cow<'r, [u8]>, Cow<'r, [u8]>, Option<u16>) {
    let Rewritten { request, to, .. } = rewritten;
    let part = |first: &'r Option<Vec<u8>>, second: &'r Option<Vec<u8>>, before: &'r [u8]| {
        let over = first.as_deref().or(second.as_deref());
        Cow::Borrowed(over.unwrap_or(before))
    };
    let user = part(&request.user, &to.user, &dialled.request.user);
    let host = part(&request.host, &to.host, &dialled.request.host);
    let same_host = request.host.is_none() && to.host.is_none();
    let port = request.port.or(to.port).or_else(|| dialled.request.port.filter(|_| same_host));
    (user, host, port)
}

fn refuse(status: u16, because: &'static str) -> Decision {
    Decision::Refuse(Refusal { status, reason: None, because: because.into(), rule: None })
}

const fn why(status: u16) -> &'static str {
    match status {
        400 => "the Request-URI cannot be read",
        416 => "this scheme is not spoken, or asks for TLS where the call came without",
        480 => "the user is disabled or not registered",
        500 => "none of our listeners reaches the trunk",
        503 => "the trunk's name is not resolved",
        _ => "no user, no trunk and no rule knows this address",
    }
}
