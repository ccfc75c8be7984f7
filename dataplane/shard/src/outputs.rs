//! What the core wants done, done: messages sent, relays opened, files begun, flows closed.
//! Owns:  the meaning of each `Output` in sockets and files.
//! Gives: what follows from it back to the core, through `feedback`.
//! Never: decides; an output that cannot be carried out is told to the core.
//! Holds: outputs take effect in the order in which the core gave them; no message leaves before the
//!        journal entries in front of it are in their file.

use std::rc::Rc;

use call::{Input, Output};
use media::edit::{RelayEdit, RelayReport};
use shared::metrics::Counter;
use shared::net::{Destination, Transport};
use shared::time::Now;

use crate::mesh::Sent;
use crate::shell::Shell;
use crate::sip_tcp::News;
use crate::sipflow::Passed;

impl Shell {
    pub(crate) fn apply(&mut self, now: Now, output: Output) {
        match output {
            Output::CloseFlow(flow) => self.tcp.finish(&mut self.ring, now.mono, flow),
            Output::Event(event) => {
                if !self.backlog.push(event) {
                    self.core.plain_counters().bump(Counter::EventsLost);
                }
            }
            Output::Keep { rung, came, way, bytes } => {
                let passed = Passed { rung, came, way, bytes: &bytes };
                self.flow(|flow, counters| flow.keep(now, &passed, counters));
            }
            Output::Journal(mut entry) => {
                self.flow(|flow, _| flow.stamp(&mut entry));
                let counters = self.core.plain_counters();
                self.journal.push(now.mono, &entry, counters);
            }
            Output::Mesh { to, message } => {
                // It may be an answer that another shard sends at once.
                self.write_journal(now);
                match self.mesh.send(to, message) {
                    Ok(Sent::Now) => {}
                    Ok(Sent::Later) => self.core.plain_counters().bump(Counter::MeshWaited),
                    Err(_) => self.core.plain_counters().bump(Counter::MeshFull),
                }
            }
            Output::Relay(edit) => self.edit(now, edit),
            Output::Send { to, bytes, rung } => {
                if let Some(rung) = rung {
                    let passed = Passed { rung, came: false, way: to, bytes: &bytes };
                    self.flow(|flow, counters| flow.keep(now, &passed, counters));
                }
                self.send(now, to, bytes);
            }
        }
    }

    fn send(&mut self, now: Now, to: Destination, bytes: Rc<Vec<u8>>) {
        match to.transport {
            Transport::Udp => {
                if let Err((to, bytes)) = self.udp.send(to, bytes) {
                    self.core.recycle(bytes);
                    self.feedback.push_back(Input::SendFailed(to));
                }
            }
            Transport::Tcp | Transport::Tls | Transport::Ws | Transport::Wss => {
                // The ring may submit it whenever it has no more room.
                self.write_journal(now);
                let counters = self.core.plain_counters();
                self.tcp.send(&mut self.ring, now.mono, to, bytes, counters);
            }
        }
    }

    fn edit(&mut self, now: Now, edit: RelayEdit) {
        match edit {
            RelayEdit::Open { relay, local } => {
                let answer = match self.sockets.open(&mut self.ring, relay, &local) {
                    Ok(()) => {
                        self.relays.open(now.mono, relay);
                        Input::RelayOpened(relay)
                    }
                    // Taken by somebody else, or no descriptor left: the core tries another pair.
                    Err(_) => Input::RelayRefused(relay),
                };
                self.feedback.push_back(answer);
            }
            RelayEdit::Hush { relay, side } => {
                let news = self.relays.hush(relay, side);
                self.feedback.extend(news.map(Input::Speech));
            }
            RelayEdit::Say { relay, side, say } => {
                if !self.relays.is_speaking() {
                    self.schedule.speech = now.mono;
                }
                let news = self.relays.say(now.mono, relay, side, *say);
                self.feedback.extend(news.map(Input::Speech));
            }
            RelayEdit::Mute { relay, side, mute } => self.relays.set_mute(relay, side, mute),
            RelayEdit::Remote { relay, side, remote } => {
                self.relays.set_remote(now.mono, relay, side, remote);
            }
            RelayEdit::RecordPause { relay, line, paused } => {
                self.relays.set_recording(relay, line, !paused);
            }
            RelayEdit::Timeout { relay, rtp_timeout } => {
                self.relays.set_timeout(now.mono, relay, rtp_timeout);
            }
            RelayEdit::Record { relay, call, line, path } => {
                self.captures.record(now, relay, call, line, path);
                self.relays.set_recording(relay, line, true);
            }
            RelayEdit::Close(relay) => {
                self.sockets.close(&mut self.ring, relay);
                let streams = self.relays.close(relay).unwrap_or_default();
                if self.captures.leave(now.mono, relay) {
                    // The report says where the file is, so it waits until the file is complete.
                    self.reports.insert(relay, streams);
                } else {
                    let report = RelayReport { relay, streams, capture: None };
                    self.feedback.push_back(Input::RelayClosed(report));
                }
            }
        }
    }

    /// What became of flows, for the core.
    pub(crate) fn take_news(&mut self) {
        while let Some(news) = self.tcp.poll_news() {
            match news {
                News::Closed(flow) => self.feedback.push_back(Input::FlowClosed(flow)),
                News::Failed(to) => self.feedback.push_back(Input::SendFailed(to)),
                News::HandshakeFailed(failure) => {
                    self.feedback.push_back(Input::HandshakeFailed(failure));
                }
                News::Proved { from, names } => {
                    self.feedback.push_back(Input::FlowProved { from, names });
                }
                News::Sent(bytes) => self.core.recycle(bytes),
            }
        }
    }
}
