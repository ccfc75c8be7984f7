//! Who a leg is told is calling, and who is not (RFC 3323, RFC 3324, RFC 3325).
//! Owns:  `Privacy`, what the caller asked for; `Named`, what we assert to a trunk that is trusted.
//! Gives: what From says to a leg, and the lines that stand for the caller's identity.
//! Never: an identity that neither a password, a program nor a trusted trunk stands behind; what a
//!        phone or an untrusted trunk asserts itself.
//! Holds: who asked not to be named is named to nobody but who answers emergencies, and to a trusted
//!        trunk beside From.

use std::borrow::Cow;

use shared::headers::ExtraHeader;
use shared::ids::Side;
use shared::trunk_options::TrunkOptions;
use sip::dialog::party;
use sip::wire::{HeaderName, Host, Malformed, Message, NameAddr, Scheme, Uri, Writer};

use super::setup::Outgoing;
use super::{Aim, Call, INVITER};
use crate::desk::Desk;
use crate::gate::Sender;
use crate::place::uri_of;
use crate::router::write_uri;

/// RFC 3323 4.1.1.3.
pub(crate) const ANONYMOUS: &[u8] = b"\"Anonymous\" <sip:anonymous@anonymous.invalid>";
/// The host of those who are nobody.
const NOBODYS_HOST: &[u8] = b"anonymous.invalid";
const NOBODY: &[u8] = b"anonymous";
/// Of before RFC 3325, and still spoken.
const LEGACY: &[u8] = b"Remote-Party-ID";

/// What the caller asked for by Privacy (RFC 3323 4.2, RFC 3325 9.3).
#[derive(Debug, Default)]
pub(crate) struct Privacy {
    /// `id` or `user`: nobody who is not trusted may learn who calls.
    pub hides: bool,
    /// `session`: media is not to tell where the caller is.
    pub session: bool,
    /// The call is for those who answer emergencies: they learn who calls.
    pub waived: bool,
}

impl Privacy {
    /// `legacy`: the sender is believed about Remote-Party-ID.
    pub(crate) fn of(request: &Message<'_>, legacy: bool) -> Self {
        let mut privacy = Self::default();
        for word in request.all(HeaderName::Privacy).flat_map(words) {
            let is = |known: &str| word.eq_ignore_ascii_case(known.as_bytes());
            if is("none") {
                return Self::default(); // the caller wants to be named, whatever is usual
            }
            privacy.hides |= is("id") || is("user");
            privacy.session |= is("session");
        }
        let is_full = |address: NameAddr<'_>| {
            let asked = address.param("privacy").flatten();
            asked.is_some_and(|asked| !asked.eq_ignore_ascii_case(b"off"))
        };
        privacy.hides |= legacy && calling(request).is_some_and(is_full);
        privacy
    }
}

fn words(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|byte| matches!(byte, b';' | b',')).map(<[u8]>::trim_ascii)
}

/// The identity of one INVITE of ours.
#[derive(Debug)]
pub(crate) struct Named {
    /// Names and addresses, one `sip:` and one `tel:` at most (RFC 3325 9.1).
    values: Vec<Vec<u8>>,
    /// Remote-Party-ID goes beside them.
    legacy: bool,
    hides: bool,
}

impl Named {
    pub(crate) const fn new(values: Vec<Vec<u8>>, legacy: bool, hides: bool) -> Self {
        Self { values, legacy, hides }
    }

    /// Whether it says who calls, beside what is wanted.
    pub(crate) const fn tells(&self) -> bool {
        !self.values.is_empty()
    }

    /// `added`: what a program says itself stands in place of ours.
    pub(crate) fn write(
        &self,
        out: &mut Writer<'_>,
        request: Option<&Message<'_>>,
        added: &[ExtraHeader],
    ) {
        let is_said = |name: &str| added.iter().any(|one| one.name().eq_ignore_ascii_case(name));
        if !is_said(HeaderName::PAssertedIdentity.as_str()) {
            for value in &self.values {
                out.header(HeaderName::PAssertedIdentity.as_str(), value);
            }
        }
        if let (Some(value), true) = (self.values.first(), self.legacy) {
            let privacy: &[u8] = if self.hides { b"full" } else { b"off" };
            let params: &[u8] = b";party=calling;screen=yes;privacy=";
            out.line(LEGACY, &[value, params, privacy].concat());
        }
        match request {
            _ if is_said(HeaderName::Privacy.as_str()) => {}
            Some(request) if request.first(HeaderName::Privacy).is_some() => {
                self.write_wish(out, request);
            }
            // Asked for in another way.
            _ if self.hides => {
                out.header(HeaderName::Privacy.as_str(), b"id");
            }
            _ => {}
        }
    }

    /// What the caller wrote; where that does not keep from others what stands beside it, though the
    /// caller is not to be named, `id` as well (RFC 3325 9.3).
    fn write_wish(&self, out: &mut Writer<'_>, request: &Message<'_>) {
        let asked = || request.all(HeaderName::Privacy).flat_map(words);
        if !self.hides || asked().any(|word| word.eq_ignore_ascii_case(b"id")) {
            out.copy(request, HeaderName::Privacy);
            return;
        }
        let stays = |word: &&[u8]| !word.is_empty() && !word.eq_ignore_ascii_case(b"none");
        let wish: Vec<&[u8]> = asked().filter(stays).chain([b"id".as_slice()]).collect();
        out.header(HeaderName::Privacy.as_str(), &wish.join(&b';'));
    }
}

/// Headers that say something of who calls, and go with the name (RFC 3323 4.1).
pub(crate) const TELLING: [HeaderName; 4] =
    [HeaderName::CallInfo, HeaderName::InReplyTo, HeaderName::Organization, HeaderName::Subject];

/// Whether a header is about who calls, and none that crosses: we write it ourselves.
pub(crate) fn is_identity(name: HeaderName, written: &[u8]) -> bool {
    match name {
        HeaderName::PAssertedIdentity | HeaderName::PPreferredIdentity | HeaderName::Privacy => {
            true
        }
        HeaderName::Other => written.eq_ignore_ascii_case(LEGACY),
        _ => false,
    }
}

impl Call {
    /// What the INVITE that asked for the call wants to be kept to ourselves.
    pub(crate) fn learn_privacy(&mut self, request: &Message<'_>) {
        let terms = self.leg(INVITER).and_then(|leg| leg.terms.as_ref());
        let legacy = terms.is_some_and(|terms| terms.remote_party_id);
        let asked = Privacy::of(request, legacy);
        let hides = asked.hides || self.identity(INVITER).is_some();
        self.privacy = Privacy { hides, waived: self.privacy.waived, ..asked };
    }

    /// Who the party of a leg is, name and address, where its From names nobody.
    fn identity(&self, leg: u8) -> Option<&[u8]> {
        self.leg(leg)?.identity.as_deref()
    }

    /// Who calls: what From says, unless it names nobody and a password said who it is.
    pub(crate) fn sender_of<'c>(
        &'c self,
        request: &'c Message<'c>,
    ) -> Result<NameAddr<'c>, Malformed> {
        self.identity(INVITER).map_or_else(|| request.from(), NameAddr::parse)
    }

    /// The caller's address where From names nobody.
    pub(crate) fn identity_uri(&self) -> Option<&[u8]> {
        self.identity(INVITER).map(uri_of)
    }

    /// What the party of a leg calls as, to the rules: what its From said, unless that names nobody.
    pub(crate) fn calls_as(&self, leg: u8) -> Option<&[u8]> {
        let said = || Some(self.leg(leg)?.dialog.remote_party.as_slice());
        self.identity(leg).or_else(said).map(uri_of)
    }

    /// Whether a leg on this side is not to learn who calls. `terms`: of its trunk.
    pub(crate) fn is_hidden(&self, side: Side, terms: Option<&TrunkOptions>) -> bool {
        self.privacy.hides
            && side == Side::Callee
            && !self.privacy.waived
            && !terms.is_some_and(|terms| terms.trusted)
    }

    /// What From says to a leg on this side. A trusted trunk reads beside it who wants to be nobody
    /// there, as carriers ask for it: they pass From on as it is. Where nothing can be asserted to it,
    /// From alone says who calls, and the wish that it is not to go further.
    pub(crate) fn shown_as(
        &self,
        desk: &Desk,
        outgoing: &Outgoing<'_>,
        terms: Option<&TrunkOptions>,
    ) -> Vec<u8> {
        let is_told = || !self.identity_in(desk, outgoing).is_empty();
        if self.is_hidden(outgoing.side, terms) || self.is_hidden(outgoing.side, None) && is_told()
        {
            return ANONYMOUS.to_vec();
        }
        outgoing.from.clone()
    }

    /// What a leg of a trusted trunk is told beside From; `None` for every other leg.
    pub(crate) fn named_to(&self, desk: &Desk, outgoing: &Outgoing<'_>, leg: u8) -> Option<Named> {
        let terms = self.leg(leg)?.terms.as_ref().filter(|terms| terms.trusted)?;
        let values = self.identity_in(desk, outgoing);
        Some(Named { values, legacy: terms.remote_party_id, hides: self.privacy.hides })
    }

    fn identity_in(&self, desk: &Desk, outgoing: &Outgoing<'_>) -> Vec<Vec<u8>> {
        match (outgoing.aim, outgoing.crossing) {
            (Aim::Answer, Some(request)) => self.identity_of(desk, outgoing, request),
            // A program, or a user's REFER, has said who calls.
            (Aim::SecondParty, _) => vec![outgoing.from.clone()],
            _ => Vec::new(),
        }
    }

    fn identity_of(
        &self,
        desk: &Desk,
        outgoing: &Outgoing<'_>,
        request: &Message<'_>,
    ) -> Vec<Vec<u8>> {
        if self.inbound_trunk.is_some() {
            let terms = self.leg(INVITER).and_then(|leg| leg.terms.as_ref());
            let terms = terms.filter(|terms| terms.trusted);
            return terms.map(|terms| asserted(request, terms)).unwrap_or_default();
        }
        if self.is_guests || !desk.settings.call_auth {
            return Vec::new(); // nobody has shown a password
        }
        let own = self.sender_of(request).ok();
        own.and_then(|own| users_identity(desk, &outgoing.from, &own)).into_iter().collect()
    }
}

/// Whether an address is one of those that stand for nobody (RFC 3323 4.1.1.3). Nobody's host does not
/// make a nobody of a name beside it: the rules would read that name.
pub(crate) fn names_nobody(uri: &Uri<'_>) -> bool {
    let user = uri.user_unescaped();
    let is_host = |host: &[u8]| host.eq_ignore_ascii_case(NOBODYS_HOST);
    let is_nobodys = matches!(uri.host, Host::Name(name) if is_host(name));
    user.eq_ignore_ascii_case(NOBODY) || user.is_empty() && is_nobodys
}

/// The user whose password was right, under a From that names nobody. `named`: its user.
pub(crate) fn veiled<'s>(sender: &'s Sender, named: &str) -> Option<&'s str> {
    sender.user().filter(|user| *user != named)
}

/// That user, as a leg keeps it.
pub(crate) fn identity_behind(desk: &Desk, sender: &Sender, named: &str) -> Option<Box<[u8]>> {
    veiled(sender, named).map(|user| own_party(desk, user).into())
}

/// A user of ours at our domain, with the name of the directory.
pub(crate) fn own_party(desk: &Desk, user: &str) -> Vec<u8> {
    let uri = write_uri(user.as_bytes(), home(desk), None);
    let display = display_of(desk, user).unwrap_or_default();
    party(&NameAddr { display: display.as_bytes(), uri: &uri, params: b"" })
}

/// What a trusted trunk says.
pub(crate) fn asserted(request: &Message<'_>, terms: &TrunkOptions) -> Vec<Vec<u8>> {
    let mut values = Vec::new();
    let [mut has_sip, mut has_tel] = [false; 2];
    for value in request.values(HeaderName::PAssertedIdentity) {
        let Ok(address) = NameAddr::parse(value) else { continue };
        let has = match address.parsed_uri().map(|uri| uri.scheme) {
            Ok(Scheme::Sip | Scheme::Sips) => &mut has_sip,
            Ok(Scheme::Tel) => &mut has_tel,
            _ => continue,
        };
        if !std::mem::replace(has, true) {
            values.push(party(&address));
        }
    }
    if values.is_empty() && terms.remote_party_id {
        values.extend(calling(request).map(|address| party(&address)));
    }
    values
}

/// Remote-Party-ID of the caller, not of who else is spoken about.
fn calling<'m>(request: &Message<'m>) -> Option<NameAddr<'m>> {
    let own = request.lines().filter(|(name, written, _)| {
        *name == HeaderName::Other && written.eq_ignore_ascii_case(LEGACY)
    });
    own.filter_map(|(_, _, value)| NameAddr::parse(value).ok()).find(|address| {
        let party = address.param("party").flatten();
        let is_readable = address.parsed_uri().is_ok();
        is_readable && party.is_none_or(|party| party.eq_ignore_ascii_case(b"calling"))
    })
}

/// The user whose password was right, under the number that the rules gave it. The host that its phone
/// wrote proves nothing: ours stands there, unless a rule or the trunk's own was put in its place.
/// `told`: From as the rules have it, `from`: as it was.
pub(crate) fn users_identity(desk: &Desk, told: &[u8], from: &NameAddr<'_>) -> Option<Vec<u8>> {
    let from = from.parsed_uri().ok()?;
    let name = from.user_unescaped();
    let display = std::str::from_utf8(&name).ok().and_then(|name| display_of(desk, name));
    let told = NameAddr::parse(told).ok()?;
    let told_uri = told.parsed_uri().ok()?;
    let uri: Cow<'_, [u8]> = if told_uri.host == from.host {
        Cow::Owned(at_home(desk, &told_uri))
    } else {
        Cow::Borrowed(told.uri)
    };
    let display = display.unwrap_or_default();
    Some(party(&NameAddr { display: display.as_bytes(), uri: &uri, params: b"" }))
}

fn display_of(desk: &Desk, user: &str) -> Option<String> {
    desk.snapshot.users.get(user)?.display_name.as_deref().map(quotable)
}

/// The same user at our domain.
fn at_home(desk: &Desk, uri: &Uri<'_>) -> Vec<u8> {
    write_uri(&uri.user_unescaped(), home(desk), None)
}

fn home(desk: &Desk) -> &[u8] {
    desk.settings.domains.first().unwrap_or(&desk.settings.realm).as_bytes()
}

/// Text that stands between quotes.
fn quotable(text: &str) -> String {
    text.chars().filter(|c| !c.is_control() && !matches!(c, '"' | '\\')).collect()
}
