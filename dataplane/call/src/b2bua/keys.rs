//! Keys by INFO, for a leg that did not name telephone events in its SDP.
//! Owns:  `Pressing`: the keys that are left, one request at a time so that they keep their order.
//! Gives: `press_in_dialog`, and the end of the act with the last answer.
//! Never: a key whose predecessor was not answered.
//! Holds: one act presses at a time.

use std::time::Duration;

use shared::act::Refusal;
use shared::cdr::HangupReason;
use shared::ids::Side;
use shared::limits::ACT_WAIT_MAX;
use sip::wire::Method;

use super::acts::{Begun, Waits};
use super::{Call, LegState};
use crate::desk::Desk;
use crate::transactions::{Asks, ClientKey};

/// How long a phone shows that a key is down: what phones themselves write.
const KEY_MS: u32 = 160;
/// What phones agree on without a standard.
const DTMF_RELAY: &[u8] = b"application/dtmf-relay";

#[derive(Debug)]
pub(crate) struct Pressing {
    act: u64,
    leg: u8,
    /// Last key first.
    left: Vec<u8>,
    client: Option<ClientKey>,
}

impl Pressing {
    /// The INFO that is out.
    pub(crate) fn client_mut(&mut self) -> Option<&mut ClientKey> {
        self.client.as_mut()
    }
}

impl Call {
    pub(super) fn press_in_dialog(
        &mut self,
        desk: &mut Desk,
        act: u64,
        side: Side,
        keys: &str,
    ) -> Result<Begun, Refusal> {
        let leg = self.standing_leg(side).ok_or(Refusal::NotAnswered)?;
        if self.pressing.is_some() || self.lent.is_some() {
            return Err(Refusal::Busy);
        }
        let left = keys.bytes().rev().collect();
        self.pressing = Some(Box::new(Pressing { act, leg, left, client: None }));
        self.press_next(desk);
        Ok(Begun::Waits(Waits::News, ACT_WAIT_MAX - Duration::from_secs(1)))
    }

    fn press_next(&mut self, desk: &mut Desk) {
        let Some(pressing) = &mut self.pressing else { return };
        let (act, leg) = (pressing.act, pressing.leg);
        let waited_for = self.acts.iter().any(|waiting| waiting.is(act));
        let Some(key) = pressing.left.pop().filter(|_| waited_for) else {
            self.pressing = None;
            return self.finish_act(desk, act, Ok(()));
        };
        let sent = self.send_key(desk, leg, key);
        match (&mut self.pressing, sent) {
            (Some(pressing), Some(_)) => pressing.client = sent,
            _ => self.pressing_failed(desk, 503),
        }
    }

    fn send_key(&mut self, desk: &mut Desk, index: u8, key: u8) -> Option<ClientKey> {
        let owner = self.owner(index, Asks::Key);
        let leg = &mut self.legs[usize::from(index)];
        let cseq = leg.dialog.next_cseq();
        let (dialog, way) = (&leg.dialog, leg.way);
        let key = char::from(key).to_ascii_uppercase();
        let body = format!("Signal={key}\r\nDuration={KEY_MS}\r\n");
        desk.request(Method::Info, dialog.request_uri(), way, 70, owner, |desk, mut out| {
            dialog.write_request_headers(&mut out, cseq, "INFO");
            out.header("User-Agent", desk.settings.product.as_bytes());
            out.body(DTMF_RELAY, body.as_bytes());
        })
    }

    /// The answer to a key, or the lack of one.
    pub(crate) fn handle_key_answer(&mut self, desk: &mut Desk, client: ClientKey, status: u16) {
        let is_its = self.pressing.as_ref().is_some_and(|one| one.client == Some(client));
        match status {
            _ if !is_its || status < 200 => {}
            200..=299 => self.press_next(desk),
            _ => self.pressing_failed(desk, status),
        }
        self.arm(desk);
    }

    /// The leg is gone, and with it the keys that it was still to get.
    pub(super) fn stop_pressing(&mut self, desk: &mut Desk, leg: u8) {
        if let Some(pressing) = self.pressing.take_if(|pressing| pressing.leg == leg) {
            self.finish_act(desk, pressing.act, Err(Refusal::NotConfirmed));
        }
    }

    fn pressing_failed(&mut self, desk: &mut Desk, status: u16) {
        let Some(pressing) = self.pressing.take() else { return };
        self.finish_act(desk, pressing.act, Err(Refusal::PeerRefused(status)));
        if status == 481 {
            // RFC 3261 12.2.1.2; a 408 to INFO says little.
            self.legs[usize::from(pressing.leg)].state = LegState::Ended;
            self.end(desk, HangupReason::Failed, 200, Some(pressing.leg));
        }
    }
}
