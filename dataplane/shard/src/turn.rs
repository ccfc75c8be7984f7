//! One turn of the shard: completions, commands, other shards, time; then everything goes out.
//! Owns:  how much of each a turn may do.
//! Gives: `turn`, which says whether more waits already.
//! Never: waits; lets one kind of work keep the others from theirs.
//! Holds: the core's outputs are drained after every input.

use std::io;
use std::rc::Rc;
use std::time::Duration;

use call::{Earlier, Input, MeshMessage, Output};
use media::edit::RelayReport;
use media::relay::Component;
use media::speakers::Spoken;
use media::speech::FRAME;
use shared::command::Command;
use shared::event::{Event, Notice};
use shared::metrics::{Counter, Counters};
use shared::net::Source;
use shared::time::{Instant, Now};

use crate::capture::{Closed, Heard};
use crate::relay_sockets::leg_of;
use crate::ring::Released;
use crate::ring::token::{Seat, Token};
use crate::shell::{Pools, Shell};
use crate::sipflow::{Passed, SipFlow};

/// Completions of a turn: some 4 ms of media at the rate where a CPU is full.
const COMPLETIONS_MAX: usize = 512;
const COMMANDS_MAX: usize = 64;
const MESH_MAX: usize = 256;
/// Inputs that follow from outputs, per input of the outside; the rest waits for the next one.
const FEEDBACK_MAX: usize = 4_096;

const SECOND: Duration = Duration::from_secs(1);
const CAPTURE_SWEEP: Duration = Duration::from_millis(250);

impl Shell {
    /// `true`: more waits, turn again without sleeping.
    pub(crate) fn turn(&mut self, now: Now, pools: &mut Pools) -> io::Result<bool> {
        self.core.plain_counters().bump(Counter::Turns);
        let completions = self.take_completions(now, pools)?;
        self.pace.observe(now.mono, completions as u32);
        let commands = self.take_commands(now);
        let messages = self.take_messages(now);
        self.take_time(now);
        self.take_closed_captures(now);
        if !self.feedback.is_empty() {
            self.settle(now);
        }
        self.submit(now, pools)?;
        self.mesh.wake();
        self.deliver(now.mono);
        Ok(completions >= COMPLETIONS_MAX
            || commands >= COMMANDS_MAX
            || messages >= MESH_MAX
            || !self.feedback.is_empty()
            || !self.udp.is_empty())
    }

    /// Takes completions until none is left or the turn has had its share.
    fn take_completions(&mut self, now: Now, pools: &mut Pools) -> io::Result<usize> {
        let mut taken = 0;
        let mut batch = std::mem::take(&mut self.batch);
        while taken < COMPLETIONS_MAX {
            // This also submits what the batch before gave rise to: one system call for both.
            self.ring.enter()?;
            self.take_released(pools);
            self.ring.reap(COMPLETIONS_MAX - taken, &mut batch);
            if batch.is_empty() {
                break;
            }
            taken += batch.len();
            for completion in batch.drain(..) {
                self.complete(now, pools, completion);
            }
        }
        self.batch = batch;
        Ok(taken)
    }

    fn take_commands(&mut self, now: Now) -> usize {
        for count in 0..COMMANDS_MAX {
            let Some(command) = self.link.commands.pop() else { return count };
            match &command {
                Command::Publish(snapshot) => {
                    self.take_keys(); // a trunk in it may be shown one of the new ones
                    self.tcp.expect_names(&snapshot.trunks);
                    self.tcp.expect_sources(snapshot);
                }
                Command::Stop => self.stop(now.mono),
                Command::Intake(intake) => self.flow(|flow, _| flow.set_taking(intake.messages)),
                _ => {}
            }
            self.input(now, Input::Command(command));
        }
        COMMANDS_MAX
    }

    fn take_messages(&mut self, now: Now) -> usize {
        for count in 0..MESH_MAX {
            let Some((from, message)) = self.mesh.take() else { return count };
            match message {
                MeshMessage::Message { from, bytes, since } => {
                    self.core.waited(now.mono, now.mono.since(since));
                    self.message(now, from, &bytes, Input::Moved { from, bytes: &bytes });
                }
                MeshMessage::Onward { from, bytes } => {
                    self.message(now, from, &bytes, Input::Moved { from, bytes: &bytes });
                }
                message => self.input(now, Input::Mesh { from, message }),
            }
        }
        MESH_MAX
    }

    fn take_time(&mut self, now: Now) {
        if self.core.deadline().is_some_and(|deadline| deadline <= now.mono) {
            self.input(now, Input::Timeout);
        }
        if self.relays.is_speaking() && now.mono >= self.schedule.speech {
            self.schedule.speech = next_beat(self.schedule.speech, now.mono, FRAME);
            self.speak(now);
        }
        if now.mono >= self.schedule.captures {
            self.schedule.captures = now.mono + CAPTURE_SWEEP;
            self.captures.sweep(now.mono);
        }
        self.flow(|flow, _| flow.hand_over_old(now.mono));
        if !self.core.idle() {
            self.journal.beat(now.mono, self.core.plain_counters());
        }
        if now.mono >= self.schedule.second {
            self.schedule.second = next_beat(self.schedule.second, now.mono, SECOND);
            self.each_second(now);
        }
    }

    fn take_keys(&mut self) {
        if let Some(keys) = self.link.keys.pop() {
            self.tcp.renew(keys);
        }
    }

    fn each_second(&mut self, now: Now) {
        let feedback = &mut self.feedback;
        self.relays.sweep(now.mono, |relay| feedback.push_back(Input::RelaySilent(relay)));
        self.take_keys();
        self.tcp.sweep(&mut self.ring, now.mono, self.core.plain_counters());
        self.tcp.listen(&mut self.ring);
        self.sockets.arm_failed();
        self.udp.arm_failed();
        self.settle(now);
        self.journal.report(self.core.plain_counters());
        self.write_journal(now);
        while let Some(notice) = self.journal.take_notice().or_else(|| self.flow_notice()) {
            self.apply(now, Output::Event(Event::Notice(notice)));
        }
        if !self.backlog.is_stuck() {
            // Numbers that nobody reads are not worth a place in a backlog.
            self.send_counters();
        }
    }

    /// The next 20 ms of everything that we say ourselves.
    fn speak(&mut self, now: Now) {
        let Self { relays, sockets, ring, captures, core, feedback, .. } = self;
        let counters = core.plain_counters();
        let send = |spoken: Spoken<'_>| {
            let Spoken { relay, side, to, record, packet } = spoken;
            let seat = Seat { index: relay.slot, generation: relay.generation };
            let Some(socket) = sockets.socket(seat, leg_of(side, Component::Rtp)) else { return };
            if record {
                // It stands for what the other side would have said.
                let side = side.other();
                let heard = Heard { at: now.mono, side, component: Component::Rtp, packet };
                captures.append(relay, &heard);
            }
            let bytes = Rc::new(packet.to_vec());
            counters.bump(match ring.send_datagram(socket, to, None, bytes, Token::MediaSend) {
                Ok(()) => Counter::RtpGenerated,
                Err(_) => Counter::RtpSendFailed,
            });
        };
        relays.beat(now.mono, send, |news| feedback.push_back(Input::Speech(news)));
        self.settle(now);
    }

    /// Files that are complete: now the relay's report is, too.
    pub(crate) fn take_closed_captures(&mut self, now: Now) {
        while let Some(Closed { relay, capture }) = self.captures.poll_closed() {
            let streams = self.reports.remove(&relay).unwrap_or_default();
            let report = RelayReport { relay, streams, capture: Some(capture) };
            self.input(now, Input::RelayClosed(report));
        }
    }

    /// One input of the outside, with everything that follows from it.
    pub(crate) fn input(&mut self, now: Now, input: Input<'_>) {
        self.core.handle_input(now, input);
        self.keep_earlier(now);
        self.settle(now);
    }

    /// What passed before there was a call for it, which it now has.
    fn keep_earlier(&mut self, now: Now) {
        while let Some(earlier) = self.core.poll_earlier() {
            let Earlier { rung, at, came, way, bytes } = earlier;
            let passed = Passed { rung, came, way, bytes: &bytes };
            let then = Now { wall: at, ..now };
            self.flow(|flow, counters| flow.keep(then, &passed, counters));
            self.core.recycle(bytes);
        }
    }

    /// The same for a message, which is kept for its call in front of what follows from it.
    pub(crate) fn message(&mut self, now: Now, from: Source, bytes: &[u8], input: Input<'_>) {
        self.core.handle_input(now, input);
        self.keep_earlier(now);
        if let Some(rung) = self.core.heard() {
            let passed = Passed { rung, came: true, way: from.back(), bytes };
            self.flow(|flow, counters| flow.keep(now, &passed, counters));
        }
        self.settle(now);
    }

    /// Works on the SIP flow, where messages are kept.
    pub(crate) fn flow(&mut self, work: impl FnOnce(&mut SipFlow, &mut Counters)) {
        if let Some(flow) = &mut self.sipflow {
            work(flow, self.core.plain_counters());
        }
    }

    fn flow_notice(&mut self) -> Option<Notice> {
        self.sipflow.as_mut()?.take_notice(self.core.plain_counters())
    }

    pub(crate) fn settle(&mut self, now: Now) {
        for _ in 0..FEEDBACK_MAX {
            while let Some(output) = self.core.poll_output() {
                self.apply(now, output);
            }
            self.take_news();
            let Some(input) = self.feedback.pop_front() else { return };
            self.core.handle_input(now, input);
        }
        while let Some(output) = self.core.poll_output() {
            self.apply(now, output);
        }
    }

    /// Hands everything that waits to the kernel, the journal first: answers wait for it.
    fn submit(&mut self, now: Now, pools: &mut Pools) -> io::Result<()> {
        self.write_journal(now);
        self.udp.arm(&mut self.ring);
        self.tcp.arm(&mut self.ring);
        self.sockets.arm(&mut self.ring);
        self.udp.submit(&mut self.ring);
        self.ring.enter()?;
        self.take_released(pools);
        Ok(())
    }

    pub(crate) fn write_journal(&mut self, now: Now) {
        if self.journal.is_written() {
            return;
        }
        self.journal.write(now.mono, self.core.plain_counters());
        if self.journal.take_turned() {
            self.feedback.push_back(Input::JournalTurned);
        }
    }

    fn take_released(&mut self, pools: &mut Pools) {
        while let Some(released) = self.ring.released() {
            match released {
                Released::Bytes(bytes) => self.core.recycle(bytes),
                Released::Loan(loan) => pools.media.give_back(loan),
                Released::Socket(socket) => drop(socket),
            }
        }
    }

    /// Events to the control plane, as many as it takes, once they are due.
    fn deliver(&mut self, now: Instant) {
        if self.has_news() && self.backlog.is_due(now) {
            self.deliver_now(now);
        }
        self.core.plain_counters().set(Counter::EventBacklog, self.backlog.len() as u64);
    }

    pub(crate) fn deliver_now(&mut self, now: Instant) {
        let mut moved = self.backlog.flush(now, &self.link.events);
        if self.backlog.is_empty()
            && let Some(news) = self.journal.news()
            && let Event::Journaled { position, .. } = news
            && self.link.events.push(news).is_ok()
        {
            self.journal.told(position);
            moved = true;
        }
        if moved {
            self.link.buzzer.buzz();
        }
    }

    /// Something is to be told to the control plane.
    pub(crate) fn has_news(&self) -> bool {
        !self.backlog.is_empty() || self.journal.has_news()
    }
}

/// The next beat of a steady rhythm; beats that were slept through are skipped.
fn next_beat(last: Instant, now: Instant, every: Duration) -> Instant {
    let next = last + every;
    if next > now { next } else { now + every }
}
