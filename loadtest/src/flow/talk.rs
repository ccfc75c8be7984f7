//! Two `FlowPhone`s in a call with each other.
//! Owns:  the caller's dialog, the sound of both sides.
//! Gives: the call from INVITE to BYE, with requests and sound between.
//! Never: the phones: many calls stand at once, and a test lends theirs to each step.
//! Holds: every request of it is answered by the other phone, not by the gateway alone.

use super::{FlowPhone, LIMIT, Media, Placed};
use crate::wait;

#[derive(Debug)]
pub struct Talk {
    dialog: Placed,
    media: [Media; 2],
}

impl Talk {
    pub fn begin(caller: &mut FlowPhone, callee: &mut FlowPhone) -> Result<Self, String> {
        let mut media = [caller.media(440.0)?, callee.media(1_000.0)?];
        let [own, other] = &mut media;
        let mut dialog = caller.invite(&callee.user, own)?;
        callee.pick_up(other)?;
        caller.complete(&mut dialog, own)?;
        Ok(Self { dialog, media })
    }

    /// Each side sends a packet, and each hears the other's: so often.
    pub fn speak(&mut self, packets: u32) -> Result<(), String> {
        for _ in 0..packets {
            for side in &mut self.media {
                side.send()?;
            }
            for side in &mut self.media {
                let mut broken = Ok(());
                let came = || match side.hear() {
                    Ok(came) => came.then_some(()),
                    Err(error) => {
                        broken = Err(error);
                        Some(())
                    }
                };
                wait::until("RTP of the other side", LIMIT, came)?;
                broken?;
            }
        }
        Ok(())
    }

    /// An INFO of the caller, which crosses to the callee and is answered there.
    pub fn tell(&mut self, caller: &mut FlowPhone, callee: &mut FlowPhone) -> Result<(), String> {
        self.exchange("INFO", caller, callee)
    }

    /// The caller's BYE. Gives the Call-ID.
    pub fn hang_up(
        mut self,
        caller: &mut FlowPhone,
        callee: &mut FlowPhone,
    ) -> Result<String, String> {
        self.exchange("BYE", caller, callee)?;
        Ok(self.dialog.call_id)
    }

    fn exchange(
        &mut self,
        method: &str,
        caller: &mut FlowPhone,
        callee: &mut FlowPhone,
    ) -> Result<(), String> {
        caller.say(method, &mut self.dialog)?;
        callee.allow(method)?;
        caller.hear("SIP/2.0 200").map(drop)
    }
}
