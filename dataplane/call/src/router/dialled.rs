//! What the dial plan looks at: the parts of one INVITE, or of a trial of one.
//! Owns:  `Dialled`, the reading of a field.
//! Gives: the value of any field of the rule language, borrowed where it stands in the message.
//! Never: a copy of the message; a guess where a header is not there.
//! Holds: a call and a trial of it have the same values.

use std::borrow::Cow;
use std::net::IpAddr;

use shared::route::{Field, RouteDirection, Trial};
use sip::wire::{HeaderName, Malformed, Message, NameAddr, Uri};

#[derive(Debug)]
pub(crate) struct Dialled<'m> {
    /// `Inbound` or `Outbound`.
    pub direction: RouteDirection,
    pub source_ip: IpAddr,
    pub source_trunk: Option<&'m str>,
    pub from: Address<'m>,
    pub to: Address<'m>,
    pub request: Address<'m>,
    pub call_id: &'m [u8],
    pub headers: Headers<'m>,
}

#[derive(Debug)]
pub(crate) struct Address<'m> {
    pub uri: &'m [u8],
    pub user: Cow<'m, [u8]>,
    pub host: Cow<'m, [u8]>,
    pub port: Option<u16>,
}

#[derive(Debug)]
pub(crate) enum Headers<'m> {
    List(&'m [(String, String)]),
    Message(&'m Message<'m>),
}

impl<'m> Address<'m> {
    pub(crate) fn parse(uri: &'m [u8]) -> Result<Self, Malformed> {
        let parsed = Uri::parse(uri)?;
        let host = match parsed.host {
            sip::wire::Host::Name(name) => Cow::Borrowed(name),
            other => Cow::Owned(other.to_string().into_bytes()),
        };
        Ok(Self { uri, user: parsed.user_unescaped(), host, port: parsed.port })
    }

    fn at(&self) -> Cow<'_, [u8]> {
        Cow::Owned([&self.user, b"@".as_slice(), &self.host].concat())
    }

    fn port(&self) -> Cow<'_, [u8]> {
        Cow::Owned(self.port.unwrap_or(5_060).to_string().into_bytes())
    }
}

impl<'m> Dialled<'m> {
    pub(crate) fn of_request(
        request: &'m Message<'m>,
        uri: &'m [u8],
        source_ip: IpAddr,
        source_trunk: Option<&'m str>,
    ) -> Result<Self, Malformed> {
        Ok(Self {
            direction: direction(source_trunk),
            source_ip,
            source_trunk,
            from: Address::parse(request.from()?.uri)?,
            to: Address::parse(request.to()?.uri)?,
            request: Address::parse(uri)?,
            call_id: request.call_id().unwrap_or_default(),
            headers: Headers::Message(request),
        })
    }

    /// From as it is where the message names nobody.
    pub(crate) fn named(self, uri: Option<&'m [u8]>) -> Result<Self, Malformed> {
        let Some(uri) = uri else { return Ok(self) };
        Ok(Self { from: Address::parse(uri)?, ..self })
    }

    /// A call that we make ourselves.
    pub(crate) fn of_uris(
        from: &'m [u8],
        to: &'m [u8],
        source_ip: IpAddr,
        source_trunk: Option<&'m str>,
    ) -> Result<Self, Malformed> {
        Ok(Self {
            direction: direction(source_trunk),
            source_ip,
            source_trunk,
            from: Address::parse(from)?,
            to: Address::parse(to)?,
            request: Address::parse(to)?,
            call_id: from,
            headers: Headers::List(&[]),
        })
    }

    pub(crate) fn of_trial(
        trial: &'m Trial,
        source_ip: IpAddr,
        source_trunk: Option<&'m str>,
    ) -> Result<Self, Malformed> {
        let address = |text: &'m str| Address::parse(NameAddr::parse(text.as_bytes())?.uri);
        Ok(Self {
            direction: direction(source_trunk),
            source_ip,
            source_trunk,
            from: address(&trial.from)?,
            to: address(&trial.to)?,
            request: Address::parse(trial.request_uri.as_bytes())?,
            call_id: trial.call_id.as_bytes(),
            headers: Headers::List(&trial.headers),
        })
    }

    /// `None` only for a header that is not there.
    pub(crate) fn value(&self, field: &Field) -> Option<Cow<'_, [u8]>> {
        Some(match field {
            Field::Callee => self.to.at(),
            Field::Caller => self.from.at(),
            Field::From => Cow::Borrowed(self.from.uri),
            Field::FromHost => Cow::Borrowed(&self.from.host),
            Field::FromUser => Cow::Borrowed(&self.from.user),
            Field::Header(name) => return self.header(name).map(Cow::Borrowed),
            Field::RequestHost => Cow::Borrowed(&self.request.host),
            Field::RequestPort => self.request.port(),
            Field::RequestUser => Cow::Borrowed(&self.request.user),
            Field::To => Cow::Borrowed(self.to.uri),
            Field::ToHost => Cow::Borrowed(&self.to.host),
            Field::ToPort => self.to.port(),
            Field::ToUser => Cow::Borrowed(&self.to.user),
        })
    }

    fn header(&self, name: &str) -> Option<&[u8]> {
        match &self.headers {
            Headers::List(list) => {
                let found = list.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
                found.map(|(_, value)| value.as_bytes())
            }
            Headers::Message(message) => match HeaderName::parse(name.as_bytes()) {
                HeaderName::Other => message
                    .lines()
                    .find(|(_, written, _)| written.eq_ignore_ascii_case(name.as_bytes()))
                    .map(|(_, _, value)| value),
                known => message.first(known),
            },
        }
    }
}

const fn direction(source_trunk: Option<&str>) -> RouteDirection {
    match source_trunk {
        Some(_) => RouteDirection::Inbound,
        None => RouteDirection::Outbound,
    }
}
