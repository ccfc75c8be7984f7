//! Whether a call is recorded: by the configuration, by who wished for it, by acts of programs.
//! Owns:  `Recorded`, the state of the one capture of a call.
//! Gives: `record` for acts; `begin_recording` for a relay that opens.
//! Never: a second capture of a call: a recording that was stopped goes on in the same file, and
//!        what was left out is silence in it.
//!        A first start on a full disk; a recording that began goes on.
//! Holds: from the first start on the call's record says that it was recorded.

use media::edit::RelayEdit;
use shared::act::{Recording, Refusal};
use shared::ask::Record;
use shared::cdr::LegEventType;
use shared::event::Severity;
use shared::metrics::Counter;

use super::acts::Begun;
use super::{Call, State, small};
use crate::desk::Desk;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Recorded {
    #[default]
    Never,
    Now,
    Paused,
    Stopped,
}

impl Call {
    pub(super) fn record(&mut self, desk: &mut Desk, wanted: Recording) -> Result<Begun, Refusal> {
        let next = match (wanted, self.media.recorded) {
            (Recording::Start, Recorded::Never) if !desk.intake.recordings => {
                return Err(Refusal::DiskFull);
            }
            (Recording::Start, Recorded::Now | Recorded::Paused) => {
                return Err(Refusal::AlreadyRecording);
            }
            (Recording::Start, Recorded::Never | Recorded::Stopped) => Recorded::Now,
            (Recording::Resume, Recorded::Paused) => Recorded::Now,
            (Recording::Pause, Recorded::Now) => Recorded::Paused,
            (Recording::Stop, Recorded::Now | Recorded::Paused) => Recorded::Stopped,
            _ => return Err(Refusal::NotRecording),
        };
        if self.media.past_us || (self.media.lines.is_empty() && self.state == State::Talking) {
            return Err(Refusal::NoMedia);
        }
        self.set_recorded(desk, next);
        Ok(Begun::Done)
    }

    fn set_recorded(&mut self, desk: &mut Desk, next: Recorded) {
        let first = self.media.recorded == Recorded::Never;
        self.media.recorded = next;
        for index in 0..self.media.lines.len() {
            let opened = self.media.lines[index].as_ref().filter(|line| line.opened);
            let Some(relay) = opened.map(|line| line.relay) else { continue };
            let line = small(index);
            desk.out.relay(match first {
                true => self.capture(desk, relay, line),
                false => RelayEdit::RecordPause { relay, line, paused: next != Recorded::Now },
            });
        }
    }

    /// The call was answered, and the router wants it recorded from there.
    pub(crate) fn record_from_answer(&mut self, desk: &mut Desk) {
        let from_answer = self.orders.record == Some(Record::FromAnswer);
        if from_answer && self.media.recorded == Recorded::Never && desk.intake.recordings {
            self.set_recorded(desk, Recorded::Now);
        }
    }

    /// A leg comes from a call that was being recorded: what it says here is, too. Else why it is not,
    /// which is said wherever somebody may look for the rest.
    pub(crate) fn record_joined(&mut self, desk: &mut Desk) -> Option<&'static str> {
        let why = if self.orders.record == Some(Record::Never) {
            "the router forbids it"
        } else if self.media.past_us {
            "its media goes past us"
        } else if !desk.intake.recordings {
            "the disk is full"
        } else {
            self.set_recorded(desk, Recorded::Now);
            return None;
        };
        let id = self.id;
        desk.count(Counter::RecordingsBroken);
        desk.notice(Severity::Warning, "recording_ends", || {
            format!("call {id}: a leg that was recorded goes on here and is not recorded: {why}")
        });
        Some(why)
    }

    /// The record says where the recording of the leg that came has its end.
    pub(crate) fn note_unrecorded(&mut self, why: &str) {
        let is_it =
            |event: &&mut shared::cdr::LegEvent| event.event_type == LegEventType::TransferAccepted;
        if let Some(event) = self.leg_events.iter_mut().rev().find(is_it) {
            let details = event.details.get_or_insert_default();
            details.push_str("; not recorded from here on: ");
            details.push_str(why);
        }
    }

    /// A relay opens: it is recorded as the others are.
    pub(crate) fn begin_recording(&mut self, desk: &mut Desk, index: usize) {
        let Some(relay) = self.media.lines[index].as_ref().map(|line| line.relay) else { return };
        let early = self.orders.record == Some(Record::FromAnswer) && self.answered.is_none();
        let wanted = self.wants_recording(desk) && !early;
        if self.media.recorded == Recorded::Never && wanted && desk.intake.recordings {
            self.media.recorded = Recorded::Now;
        }
        if self.media.recorded == Recorded::Never {
            return;
        }
        let line = small(index);
        desk.out.relay(self.capture(desk, relay, line));
        if self.media.recorded != Recorded::Now {
            desk.out.relay(RelayEdit::RecordPause { relay, line, paused: true });
        }
    }

    /// Whether it is to be recorded, now or from the answer on.
    pub(crate) fn wants_recording(&self, desk: &Desk) -> bool {
        let always = desk.settings.recording.auto_start;
        self.media.recorded != Recorded::Never
            || match self.orders.record {
                None => self.media.wants_recording.unwrap_or(always),
                Some(Record::FromAnswer | Record::FromMedia) => true,
                Some(Record::Never) => false,
            }
    }

    fn capture(&self, desk: &Desk, relay: shared::ids::RelayKey, line: u8) -> RelayEdit {
        let path = desk.settings.recording.captures.join(format!("{}.rgcap", self.id));
        RelayEdit::Record { relay, call: self.id, line, path }
    }
}
