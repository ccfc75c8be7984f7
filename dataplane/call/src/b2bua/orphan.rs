//! A 2xx that nobody wants: a second fork, a loser, an answer that crossed our CANCEL.
//! Owns:  the ACK and the BYE that end such a dialog, built from the INVITE and the response alone.
//! Gives: `hang_up`, which works with or without the call that sent the INVITE.
//! Never: leaves a phone off the hook.
//! Holds: each To tag gets its ACK and its BYE; repeats of the same 2xx get the ACK again.

use sip::dialog::{Dialog, State as DialogState, party};
use sip::wire::{Message, Method, scan};

use super::challenged;
use super::compose::{Carries, SDP, carries, write_body};
use super::media::refusal;
use crate::desk::Desk;
use crate::transactions::{ClientKey, Owner};

/// RFC 3261 13.2.2.4: acknowledge, then BYE.
pub(crate) fn hang_up(desk: &mut Desk, client: ClientKey, response: &Message<'_>) {
    let Some(found) = desk.transactions.clients.find(client) else { return };
    let (to, invite) = (found.to, std::rc::Rc::clone(&found.request));
    let (rung, account, last_cseq) = (found.owner.rung(), found.account.clone(), found.last_cseq);
    let Ok(invite) = scan(&invite) else { return };
    let Some((mut dialog, cseq)) = dialog_of(&invite, response) else { return };
    dialog.local_cseq = dialog.local_cseq.max(last_cseq);
    // An offer in the 2xx has to be answered even now (RFC 3261 13.2.2.4).
    let offered = invite.body().is_empty() && carries(response) == Carries::Sdp;
    let answer = if offered { refusal(desk, &to, response.body()) } else { Vec::new() };
    desk.send_ack(dialog.request_uri(), to, rung, |mut out| {
        dialog.write_request_headers(&mut out, cseq, "ACK");
        if account.is_some() {
            challenged::write_credentials(&mut out, &invite);
        }
        write_body(out, SDP, &answer);
    });
    // The BYE's transaction repeats by itself; a repeated 2xx only needs the ACK.
    let known = desk.transactions.clients.find_mut(client).is_some_and(|client| {
        let tag = dialog.remote_tag.as_slice();
        let before = client.hung_up.iter().any(|known| known == tag);
        if !before {
            client.hung_up.push(tag.to_vec());
        }
        before
    });
    if known {
        return;
    }
    let number = dialog.next_cseq();
    let owner = Owner::Nobody(rung);
    let sent = desk.request(Method::Bye, dialog.request_uri(), to, 70, owner, |_, mut out| {
        dialog.write_request_headers(&mut out, number, "BYE");
        out.end();
    });
    desk.vouch(sent, account);
}

fn dialog_of(invite: &Message<'_>, response: &Message<'_>) -> Option<(Dialog, u32)> {
    let (from, to) = (invite.from().ok()?, invite.to().ok()?);
    let cseq = invite.cseq().ok()?.number;
    let sip::wire::Start::Request { uri, .. } = invite.start() else { return None };
    let mut dialog = Dialog {
        state: DialogState::Early,
        call_id: invite.call_id().ok()?.to_vec(),
        local_tag: String::from_utf8_lossy(from.tag().unwrap_or_default()).into_owned(),
        remote_tag: to.tag().unwrap_or_default().to_vec(),
        local_party: party(&from),
        remote_party: party(&to),
        remote_target: uri.to_vec(),
        routes: Vec::new(),
        local_cseq: cseq,
        remote_cseq: None,
    };
    dialog.learn(response);
    Some((dialog, cseq))
}
