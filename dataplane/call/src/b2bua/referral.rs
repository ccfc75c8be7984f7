//! The implicit subscription of a REFER: who asked hears how the call that it asked for goes on.
//! Owns:  `Referral`: the dialog of the subscription, what was told last.
//! Gives: NOTIFY with message/sipfrag (RFC 3515 2.4.4): 100 at once, 180, and the final status.
//! Never: a NOTIFY after the last one; one that the subscriber did not want (RFC 4488).
//! Holds: every REFER that was accepted hears one final status.

use shared::net::Destination;
use sip::dialog::Dialog;
use sip::wire::{Method, reason_phrase};

use super::{Call, INVITER, LegState};
use crate::desk::Desk;
use crate::transactions::Owner;

/// What a subscriber is told that the subscription lasts: longer than any target rings.
const SUBSCRIPTION_S: u32 = 180;

#[derive(Debug)]
pub(crate) struct Referral {
    pub place: Place,
    /// The CSeq of the REFER, where its dialog has seen another one before (RFC 3515 2.4.6).
    pub event_id: Option<u32>,
    /// The status that was told last.
    pub told: u16,
}

#[derive(Debug)]
pub(crate) enum Place {
    /// The dialog of a leg of the call.
    Leg(u8),
    /// A REFER outside a dialog has made one of its own.
    Own(Box<Dialog>, Destination),
}

impl Call {
    /// A REFER was answered 202. `None`: its sender wants to hear no more.
    pub(crate) fn begin_referral(&mut self, desk: &mut Desk, referral: Option<Referral>) {
        self.referral = referral.map(Box::new);
        self.report_referral(desk, 100, b"");
    }

    /// Tells the subscriber a status of the call that it asked for, unless it knows it.
    pub(crate) fn report_referral(&mut self, desk: &mut Desk, status: u16, reason: &[u8]) {
        let Some(mut referral) = self.referral.take() else { return };
        if status < 200 && referral.told >= status {
            self.referral = Some(referral);
            return;
        }
        referral.told = status;
        let event_id = referral.event_id;
        let of_leg = if let Place::Leg(leg) = referral.place { leg } else { INVITER };
        let owner = Owner::Nobody(Some(self.rung(of_leg)));
        let told = Told { event_id, status, reason };
        match &mut referral.place {
            Place::Leg(index) => {
                let leg = &mut self.legs[usize::from(*index)];
                // After its BYE a dialog takes nothing more.
                if leg.state == LegState::Up {
                    notify(desk, &mut leg.dialog, leg.way, owner, &told);
                }
            }
            Place::Own(dialog, way) => notify(desk, dialog, *way, owner, &told),
        }
        if status < 200 {
            self.referral = Some(referral);
        }
    }
}

/// What a NOTIFY says.
struct Told<'t> {
    event_id: Option<u32>,
    status: u16,
    reason: &'t [u8],
}

fn notify(desk: &mut Desk, dialog: &mut Dialog, way: Destination, owner: Owner, told: &Told<'_>) {
    let Told { event_id, status, reason } = *told;
    let cseq = dialog.next_cseq();
    let phrase = if reason.is_empty() { reason_phrase(status).as_bytes() } else { reason };
    let clean = phrase.iter().map(|&byte| if byte < b' ' || byte == 0x7f { b' ' } else { byte });
    let mut body = format!("SIP/2.0 {status} ").into_bytes();
    body.extend(clean.take(120));
    body.extend_from_slice(b"\r\n");
    let dialog = &*dialog;
    desk.request(Method::Notify, dialog.request_uri(), way, 70, owner, |desk, mut out| {
        dialog.write_request_headers(&mut out, cseq, "NOTIFY");
        desk.write_contact(&mut out, &way);
        out.header("User-Agent", desk.settings.product.as_bytes());
        match event_id {
            Some(id) => out.header_fmt("Event", format_args!("refer;id={id}")),
            None => out.header("Event", b"refer"),
        };
        if status < 200 {
            let state = format_args!("active;expires={SUBSCRIPTION_S}");
            out.header_fmt("Subscription-State", state);
        } else {
            out.header("Subscription-State", b"terminated;reason=noresource");
        }
        out.body(b"message/sipfrag;version=2.0", &body);
    });
}
