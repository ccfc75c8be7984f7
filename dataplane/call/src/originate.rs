//! A wish for a call that we make ourselves, from a program or a REFER: who and where the parties are.
//! Owns:  the order of the refusals; what is refused here leaves no CDR.
//! Gives: a call in its first state, or the reason why there is none.
//! Never: a call for a party that routing would not let a caller reach.
//! Holds: the second party is placed as if the first had called it from where it is.

use shared::cdr::Direction;
use shared::event::{Answer, Event};
use shared::ids::CallId;
use shared::net::{Destination, Source, Transport};
use shared::originate::{Originate, Originated, Party, Unstarted};
use sip::dialog::party;
use sip::wire::{NameAddr, Uri};

use crate::b2bua::setup::uri_user;
use crate::b2bua::{Aim, Call, Changes, Dial, State, Target, compose};
use crate::core::Core;
use crate::gate;
use crate::hunting::targets_of;
use crate::place::uri_of;
use crate::router::{Decision, ToTrunks};
use crate::slots::Key;
use crate::steer;

/// The first party as far as this shard knows it.
enum First {
    /// Its bindings are kept by another shard.
    Elsewhere(Box<str>),
    Here(Vec<Target>),
    Trunks(ToTrunks),
}

/// A call that exists, and what is known about its parties.
pub(crate) struct Begun {
    pub(crate) id: CallId,
    pub(crate) slot: Key,
    first: First,
    second: Decision,
}

impl Core {
    /// A program asks. Its answer leaves before anything that the call itself does.
    pub(crate) fn originate(&mut self, id: u64, wanted: &Originate) {
        let begun = self.begin_originating(wanted);
        let originated = match &begun {
            Ok(begun) => Originated::Started(begun.id),
            Err(why) => Originated::Refused(*why),
        };
        let (shard, answer) = (self.desk.settings.shard, Answer::Originated(originated));
        self.desk.out.event(Event::Answer { id, shard, answer });
        if let Ok(begun) = begun {
            self.go_on_originating(begun);
        }
    }

    /// A call in its first state: nobody is called yet.
    pub(crate) fn begin_originating(&mut self, wanted: &Originate) -> Result<Begun, Unstarted> {
        let no_room = self.draining || gate::overloaded(&self.desk, self.calls.len());
        if no_room || self.is_full() {
            return Err(Unstarted::Overloaded);
        }
        let first_uri = self.address(&wanted.from).ok_or(Unstarted::Unreadable(Party::From))?;
        let second_uri = self.address(&wanted.to).ok_or(Unstarted::Unreadable(Party::To))?;
        let first_party = self.named_party(&first_uri);
        let caller = match &wanted.caller_id {
            Some(text) => self.shown_party(text).ok_or(Unstarted::Unreadable(Party::CallerId))?,
            None => first_party.clone(),
        };
        let first = self.find_first_party(&second_uri, &first_uri)?;
        let source = match &first {
            First::Elsewhere(_) => None,
            First::Here(targets) => targets.first().map(as_source),
            First::Trunks(to) => to.choices.first().map(|choice| as_source(&choice.target)),
        };
        let source = source.unwrap_or_else(|| self.own_source());
        let second = self.decide_dial(uri_of(&caller), &second_uri, &source);
        if let Decision::Refuse(refusal) = second {
            return Err(Unstarted::Unreachable(Party::To, refusal.status));
        }
        let slot = self.calls.next_key().ok_or(Unstarted::Overloaded)?;
        let dial = Dial {
            first: None,
            first_changes: Changes::default(),
            first_party,
            second_party: self.named_party(&second_uri),
            caller,
            second_uri,
            ring: wanted.ring.unwrap_or(self.desk.settings.timers.ring),
            headers: wanted.headers.clone(),
        };
        let call = self.new_call(slot, &first_uri, dial, source, wanted.record);
        let id = call.id;
        self.add_call(slot, call);
        Ok(Begun { id, slot, first, second })
    }

    fn new_call(
        &mut self,
        key: Key,
        first_uri: &[u8],
        dial: Dial,
        source: Source,
        record: Option<bool>,
    ) -> Call {
        let id = self.desk.mint.call_id(self.desk.now.wall, key);
        let shown = NameAddr::parse(&dial.caller).map(|caller| caller.uri.to_vec());
        let mut call = Call {
            state: State::Locating,
            caller: uri_user(first_uri),
            callee: uri_user(&dial.second_uri),
            caller_uri: compose::readable(&shown.unwrap_or_else(|_| first_uri.to_vec())),
            callee_uri: compose::readable(&dial.second_uri),
            dial: Some(Box::new(dial)),
            ..Call::blank(key, id, self.desk.now, source)
        };
        call.media.wants_recording = record;
        call
    }

    /// Where the first party is called: as if the second had dialled it at our first listener.
    fn find_first_party(&mut self, second: &[u8], first: &[u8]) -> Result<First, Unstarted> {
        let source = self.own_source();
        let decision = self.decide_dial(second, first, &source);
        self.first_by(decision, second, first)
    }

    fn first_by(
        &mut self,
        decision: Decision,
        second: &[u8],
        first: &[u8],
    ) -> Result<First, Unstarted> {
        let may_be_a_number = matches!(decision, Decision::Unlisted { .. });
        match decision {
            Decision::Refuse(refusal) => Err(Unstarted::Unreachable(Party::From, refusal.status)),
            Decision::Trunks(mut to) => {
                // Our listener may be on all addresses, and then only a route tells which one it is.
                to.choices.retain(|choice| !choice.target.way.local.ip().is_unspecified());
                if to.choices.is_empty() {
                    return Err(Unstarted::Unreachable(Party::From, 500));
                }
                Ok(First::Trunks(to))
            }
            Decision::User { user, .. } | Decision::Unlisted { user } => {
                let settings = &self.desk.settings;
                if steer::owner_of_aor(&user, settings.shards) != settings.shard {
                    return Ok(First::Elsewhere(user));
                }
                let targets: Vec<_> =
                    targets_of(&user, self.registrar.targets(&user, None)).collect();
                match targets.is_empty() {
                    false => Ok(First::Here(targets)),
                    true if may_be_a_number => self.first_by_rules(second, first),
                    true => Err(Unstarted::NotRegistered(Party::From)),
                }
            }
        }
    }

    /// Nobody of that name is registered: the rules may know the number.
    fn first_by_rules(&mut self, second: &[u8], first: &[u8]) -> Result<First, Unstarted> {
        let source = self.own_source();
        match self.decide_between(second, first, &source, None, true) {
            Decision::Refuse(refusal) if refusal.status == 480 => {
                Err(Unstarted::NotRegistered(Party::From))
            }
            decision => self.first_by(decision, second, first),
        }
    }

    pub(crate) fn go_on_originating(&mut self, begun: Begun) {
        let Begun { slot, first, second, .. } = begun;
        match first {
            First::Elsewhere(user) => {
                let owner = steer::owner_of_aor(&user, self.desk.settings.shards);
                if !self.ask_bindings(slot, owner, user) {
                    self.with_call(Some(slot), |call, desk, _| call.refuse(desk, 503));
                }
            }
            First::Here(targets) => self.place_second_party(slot, targets, second),
            First::Trunks(to) => self.call_first_over_trunk(slot, to, second),
        }
    }

    fn call_first_over_trunk(&mut self, slot: Key, to: ToTrunks, second: Decision) {
        let wanted = to.choices.first().map(|choice| choice.trunk.clone());
        let choice = self.pick_trunk(slot, Aim::FirstParty, to);
        if let Some(call) = self.calls.find_mut(slot) {
            call.direction = Direction::Outbound;
            call.outbound_trunk = choice.as_ref().map(|one| one.trunk.clone()).or(wanted);
        }
        let Some(choice) = choice else {
            return self
                .with_call(Some(slot), |call, desk, _| call.refuse(desk, call.unplaced_status()));
        };
        let call = self.calls.find_mut(slot);
        if let Some(dial) = call.and_then(|call| call.dial.as_mut()) {
            dial.first_changes = choice.changes;
        }
        self.place_second_party(slot, vec![choice.target], second);
    }

    /// The shard that keeps the first party's bindings has answered.
    pub(crate) fn first_party_found(&mut self, slot: Key, targets: Vec<Target>) {
        let Some(call) = self.calls.find_mut(slot) else { return };
        let Some(first) = targets.first() else { return self.first_party_not_found(slot) };
        call.source = as_source(first);
        let source = call.source;
        let Some(dial) = &call.dial else { return };
        let (caller, uri) = (dial.caller.clone(), dial.second_uri.clone());
        let second = self.decide_dial(uri_of(&caller), &uri, &source);
        self.place_second_party(slot, targets, second);
    }

    /// It has no binding there either, so what was taken for a name may be a number that rules know.
    fn first_party_not_found(&mut self, slot: Key) {
        match self.find_first_trunks(slot) {
            Ok((to, second)) => self.call_first_over_trunk(slot, to, second),
            Err(status) => {
                self.with_call(Some(slot), |call, desk, _| call.refuse(desk, status));
            }
        }
    }

    /// The trunks that lead to the first party, and where the second is from there. Else the status that
    /// the call ends with.
    fn find_first_trunks(&mut self, slot: Key) -> Result<(ToTrunks, Decision), u16> {
        let dial = self.calls.find_mut(slot).and_then(|call| call.dial.as_ref()).ok_or(480_u16)?;
        let first_uri = uri_of(&dial.first_party).to_vec();
        let (caller, second_uri) = (dial.caller.clone(), dial.second_uri.clone());
        let own = self.own_source();
        if !matches!(self.decide_dial(&second_uri, &first_uri, &own), Decision::Unlisted { .. }) {
            return Err(480);
        }
        let to = match self.first_by_rules(&second_uri, &first_uri) {
            Ok(First::Trunks(to)) => to,
            Err(Unstarted::Unreachable(_, status)) => return Err(status),
            Ok(_) | Err(_) => return Err(480),
        };
        let source = to.choices.first().map_or(own, |choice| as_source(&choice.target));
        if let Some(call) = self.calls.find_mut(slot) {
            call.source = source;
        }
        let second = self.decide_dial(uri_of(&caller), &second_uri, &source);
        Ok((to, second))
    }

    fn place_second_party(&mut self, slot: Key, first: Vec<Target>, second: Decision) {
        for flow in first.iter().filter_map(|target| target.way.flow) {
            self.flows.insert(flow);
        }
        let Some(dial) = self.calls.find_mut(slot).and_then(|call| call.dial.as_mut()) else {
            return;
        };
        dial.first = Some(first);
        self.carry_out(slot, second);
    }

    /// A SIP URI as it is; anything else is a user part of our own domain.
    pub(crate) fn address(&self, text: &str) -> Option<Vec<u8>> {
        let text = text.trim();
        if text.is_empty() || text.len() > ADDRESS_BYTES_MAX {
            return None;
        }
        let has_scheme = text.split_once(':').is_some_and(|(scheme, _)| {
            !scheme.is_empty() && scheme.bytes().all(|byte| byte.is_ascii_alphabetic())
        });
        let uri = if has_scheme {
            text.as_bytes().to_vec()
        } else {
            let mut uri = b"sip:".to_vec();
            escape_user(text, &mut uri)?;
            uri.push(b'@');
            uri.extend_from_slice(self.desk.settings.realm.as_bytes());
            uri
        };
        Uri::parse(&uri).is_ok_and(|parsed| parsed.headers.is_empty()).then_some(uri)
    }

    /// The address with the name that a user of ours is known by.
    fn named_party(&self, uri: &[u8]) -> Vec<u8> {
        let known = Uri::parse(uri).ok().and_then(|uri| {
            let user = uri.user_unescaped();
            self.desk.snapshot.users.get(std::str::from_utf8(&user).ok()?)
        });
        let name = known.and_then(|user| user.display_name.as_deref()).unwrap_or_default();
        let plain = |c: &char| !c.is_control() && !matches!(c, '"' | '\\');
        let name: String = name.chars().filter(plain).collect();
        party(&NameAddr { display: name.as_bytes(), uri, params: b"" })
    }

    /// What somebody wrote to be shown: `"Name" <sip:...>`, a URI, or a user part of ours.
    fn shown_party(&self, text: &str) -> Option<Vec<u8>> {
        if !text.contains('<') {
            return self.address(text).map(|uri| self.named_party(&uri));
        }
        let address = NameAddr::parse(text.as_bytes()).ok()?;
        let is_whole = address.params.is_empty() && text.len() <= ADDRESS_BYTES_MAX;
        let uri = address.parsed_uri().ok().filter(|uri| uri.is_sip() && is_whole)?;
        let plain = |byte: &u8| *byte >= b' ' && *byte != 0x7f;
        (uri.headers.is_empty() && address.display.iter().all(plain)).then(|| party(&address))
    }

    /// As if the wish had come to our first listener from itself.
    pub(crate) fn own_source(&self) -> Source {
        let settings = &self.desk.settings;
        let listens = [
            (Transport::Udp, settings.udp.first()),
            (Transport::Tcp, settings.tcp.first()),
            (Transport::Tls, settings.tls.first()),
        ];
        let first = listens.into_iter().find_map(|(by, local)| local.map(|local| (by, *local)));
        let nowhere = (Transport::Udp, std::net::SocketAddr::from(([0, 0, 0, 0], 5060)));
        let (transport, local) = first.unwrap_or(nowhere);
        Source { transport, local, peer: local, flow: None }
    }
}

/// Longer than any number or name that people give each other.
const ADDRESS_BYTES_MAX: usize = 256;

/// As if this contact had called us.
fn as_source(target: &Target) -> Source {
    source_of(&target.way)
}

/// As if whoever is reached there had called us.
pub(crate) fn source_of(way: &Destination) -> Source {
    Source { transport: way.transport, local: way.local, peer: way.peer, flow: way.flow }
}

/// RFC 3261 25.1: what is no part of a user name as it stands is written as `%xx`.
fn escape_user(text: &str, out: &mut Vec<u8>) -> Option<()> {
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' => out.push(byte),
            b'-' | b'_' | b'.' | b'!' | b'~' | b'*' | b'\'' | b'(' | b')' | b'+' => out.push(byte),
            0..=0x20 | 0x7f => return None,
            _ => out.extend_from_slice(format!("%{byte:02X}").as_bytes()),
        }
    }
    Some(())
}
