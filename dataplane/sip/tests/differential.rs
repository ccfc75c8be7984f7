//! The wire layer beside another parser, rsip: both read the same bytes to the same values.
//! Owns:  the comparison, and the list of what rsip cannot read.
//! Gives: a second opinion that shares no code with ours.
//! Never: takes silence for agreement: the number of compared fields has a floor.
//! Holds: where both read a field, they agree.

mod samples;

use rsip::SipMessage;
use rsip::headers::{ToTypedHeader, UntypedHeader};
use rsip::message::HeadersExt;
use samples::{PHONES, torture};
use sip::wire::{Message, Start, scan};

#[derive(Debug, Default)]
struct Agreement {
    fields: usize,
    differences: Vec<String>,
}

impl Agreement {
    fn compare(&mut self, what: &str, ours: &[u8], theirs: &str) {
        self.fields += 1;
        if ours != theirs.as_bytes() {
            let ours = String::from_utf8_lossy(ours);
            self.differences.push(format!("{what}: {ours:?} here, {theirs:?} there"));
        }
    }

    fn message(&mut self, name: &str, bytes: &[u8]) {
        // rsip reads text only, and panics on some of the set: then it has no opinion.
        let Ok(Ok(theirs)) = std::panic::catch_unwind(|| SipMessage::try_from(bytes)) else {
            return;
        };
        let Ok(ours) = scan(bytes) else { return };
        self.start_line(name, &ours, &theirs);
        self.identity(name, &ours, &theirs);
        self.addresses(name, &ours, &theirs);
    }

    fn start_line(&mut self, name: &str, ours: &Message<'_>, theirs: &SipMessage) {
        match (ours.start(), theirs) {
            (Start::Request { method_text, uri, .. }, SipMessage::Request(theirs)) => {
                self.compare(&format!("{name}: method"), method_text, &theirs.method.to_string());
                if ours.check_request().is_ok() {
                    // rsip writes the transport in capitals.
                    let theirs = theirs.uri.to_string().to_ascii_lowercase();
                    self.compare(&format!("{name}: URI"), &uri.to_ascii_lowercase(), &theirs);
                }
            }
            (Start::Response { status, .. }, SipMessage::Response(theirs)) => {
                let code = theirs.status_code.code().to_string();
                self.compare(&format!("{name}: status"), status.to_string().as_bytes(), &code);
            }
            _ => self.differences.push(format!("{name}: request or response?")),
        }
    }

    fn identity(&mut self, name: &str, ours: &Message<'_>, theirs: &SipMessage) {
        if let (Ok(ours), Ok(theirs)) = (ours.call_id(), theirs.call_id_header()) {
            self.compare(&format!("{name}: Call-ID"), ours, theirs.value());
        }
        if let (Ok(ours), Ok(Ok(theirs))) =
            (ours.cseq(), theirs.cseq_header().map(ToTypedHeader::typed))
        {
            let number = theirs.seq.to_string();
            self.compare(&format!("{name}: CSeq"), ours.number.to_string().as_bytes(), &number);
            if ours.method != sip::wire::Method::Other {
                let method = theirs.method.to_string();
                self.compare(&format!("{name}: CSeq"), ours.method.as_str().as_bytes(), &method);
            }
        }
        let typed = theirs.via_header().map(ToTypedHeader::typed);
        if let (Ok(ours), Ok(Ok(theirs))) = (ours.via(), typed) {
            let branch = theirs.branch().map(|branch| branch.value().to_owned());
            let what = format!("{name}: branch");
            self.compare(&what, ours.branch.unwrap_or_default(), &branch.unwrap_or_default());
            let transport = theirs.transport.to_string();
            self.compare(&format!("{name}: transport"), ours.transport, &transport);
        }
    }

    fn addresses(&mut self, name: &str, ours: &Message<'_>, theirs: &SipMessage) {
        if let (Ok(ours), Ok(Ok(theirs))) =
            (ours.from(), theirs.from_header().map(ToTypedHeader::typed))
        {
            let tag = theirs.tag().map(|tag| tag.value().to_owned()).unwrap_or_default();
            self.compare(&format!("{name}: From tag"), ours.tag().unwrap_or_default(), &tag);
        }
        if let (Ok(ours), Ok(Ok(theirs))) =
            (ours.to(), theirs.to_header().map(ToTypedHeader::typed))
        {
            let tag = theirs.tag().map(|tag| tag.value().to_owned()).unwrap_or_default();
            self.compare(&format!("{name}: To tag"), ours.tag().unwrap_or_default(), &tag);
        }
    }
}

#[test]
fn both_parsers_agree_on_the_torture_set() {
    let mut agreement = Agreement::default();
    for (name, bytes) in torture() {
        agreement.message(&name, &bytes);
    }
    assert!(agreement.differences.is_empty(), "{:#?}", agreement.differences);
    assert!(agreement.fields >= 250, "only {} fields were compared", agreement.fields);
}

#[test]
fn both_parsers_agree_on_the_phones_of_every_day() {
    let mut agreement = Agreement::default();
    for (index, bytes) in PHONES.iter().enumerate() {
        agreement.message(&format!("phone {index}"), bytes);
        let ours = scan(bytes).expect("it scans");
        let checked = if ours.is_request() { ours.check_request() } else { ours.check_response() };
        assert_eq!(checked, Ok(()), "phone {index}");
    }
    assert!(agreement.differences.is_empty(), "{:#?}", agreement.differences);
    assert!(agreement.fields >= 35, "only {} fields were compared", agreement.fields);
}
