//! Non-INVITE server transaction: one request in, one final response out (RFC 3261 17.2.2).
//! Owns:  which response a repeated request gets, and the lingering (Timer J).
//! Gives: at most one `ServerOutput` per input; drain it before the next.
//! Never: reads a clock, names a socket, looks inside a message.
//! Holds: `deadline()` is `None` until the final response and in `Terminated`; nothing follows
//!        `Finished`.

use shared::time::Instant;

use super::{Outcome, Outputs, ServerInput, ServerOutput, Timers};

#[derive(Debug)]
pub struct NonInviteServer {
    state: State,
    timers: Timers,
    reliable: bool,
    outputs: Outputs<ServerOutput>,
}

#[derive(Clone, Copy, Debug)]
enum State {
    Trying,
    Proceeding,
    Completed { absorb_until: Instant },
    Terminated,
}

impl NonInviteServer {
    pub fn new(_now: Instant, timers: Timers, reliable: bool) -> Self {
        Self { state: State::Trying, timers, reliable, outputs: Outputs::none() }
    }

    /// The whole transition table: one arm per edge; the last arm is every pair that is not one.
    pub fn handle_input(&mut self, now: Instant, input: ServerInput) {
        use {ServerInput::*, State::*};
        self.state = match (self.state, input) {
            (Trying | Proceeding, Respond(100..=199)) => {
                self.outputs.push(ServerOutput::Send);
                Proceeding
            }
            (Trying | Proceeding, Respond(200..=699)) => {
                self.outputs.push(ServerOutput::Send);
                Completed { absorb_until: now + self.timers.absorb_requests_for(self.reliable) }
            }
            (Proceeding | Completed { .. }, Request) => {
                self.outputs.push(ServerOutput::Send);
                self.state
            }
            (Proceeding | Completed { .. }, TransportFailed) => self.end(Outcome::TransportFailed),
            (Completed { absorb_until }, Timeout) if now >= absorb_until => {
                self.end(Outcome::Answered) // Timer J
            }
            (unmoved, _) => unmoved, // early, late and repeated inputs are normal on UDP
        };
    }

    pub fn poll_output(&mut self) -> Option<ServerOutput> {
        self.outputs.take_first()
    }

    pub fn deadline(&self) -> Option<Instant> {
        match self.state {
            State::Completed { absorb_until } => Some(absorb_until),
            State::Trying | State::Proceeding | State::Terminated => None,
        }
    }

    fn end(&mut self, outcome: Outcome) -> State {
        self.outputs.push(ServerOutput::Finished(outcome));
        State::Terminated
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::transaction::trace::{check_sequence, run};
    use ServerInput::{Ack, Request, Respond, TransportFailed};
    use ServerOutput::{Finished, Send};

    fn udp() -> NonInviteServer {
        NonInviteServer::new(Instant::ZERO, Timers::RFC3261, false)
    }

    fn tcp() -> NonInviteServer {
        NonInviteServer::new(Instant::ZERO, Timers::RFC3261, true)
    }

    #[test]
    fn trying_absorbs_repeats() {
        assert_eq!(run(udp(), &[(500, Request), (1_500, Request)]), []);
    }

    #[test]
    fn trying_sends_every_class_of_final_response_and_timer_j_ends_it() {
        for code in [200, 302, 404, 500, 603, 699] {
            let expected = [(100, Send), (32_100, Finished(Outcome::Answered))];
            assert_eq!(run(udp(), &[(100, Respond(code))]), expected);
        }
    }

    #[test]
    fn proceeding_answers_a_repeat_with_the_provisional_response() {
        let script = [(100, Respond(100)), (500, Request), (600, Respond(183)), (700, Request)];
        assert_eq!(run(udp(), &script), [(100, Send), (500, Send), (600, Send), (700, Send)]);
    }

    #[test]
    fn proceeding_sends_the_final_response() {
        let expected = [(100, Send), (200, Send), (32_200, Finished(Outcome::Answered))];
        assert_eq!(run(udp(), &[(100, Respond(100)), (200, Respond(200))]), expected);
    }

    /// RFC 3261 17.2.2: a repeat gets the same final response, a second one is discarded.
    #[test]
    fn completed_answers_repeats_and_takes_no_further_response() {
        let script = [(100, Respond(200)), (500, Request), (600, Respond(500)), (1_500, Request)];
        let expected =
            [(100, Send), (500, Send), (1_500, Send), (32_100, Finished(Outcome::Answered))];
        assert_eq!(run(udp(), &script), expected);
    }

    /// Timer J is zero on a reliable transport.
    #[test]
    fn a_final_response_on_a_reliable_transport_finishes_at_once() {
        let expected = [(100, Send), (100, Finished(Outcome::Answered))];
        assert_eq!(run(tcp(), &[(100, Respond(200))]), expected);
    }

    #[test]
    fn proceeding_ends_when_the_response_cannot_be_sent() {
        let expected = [(100, Send), (101, Finished(Outcome::TransportFailed))];
        assert_eq!(run(udp(), &[(100, Respond(100)), (101, TransportFailed)]), expected);
    }

    #[test]
    fn completed_ends_when_the_response_cannot_be_sent() {
        let expected = [(100, Send), (101, Finished(Outcome::TransportFailed))];
        assert_eq!(run(udp(), &[(100, Respond(200)), (101, TransportFailed)]), expected);
    }

    #[test]
    fn trying_has_sent_nothing_so_no_transport_failure_is_its_own() {
        assert_eq!(run(udp(), &[(10, TransportFailed), (20, Respond(100))]), [(20, Send)]);
    }

    #[test]
    fn an_ack_and_a_status_that_is_none_move_nothing() {
        let mut script = Vec::from([0, 99, 700, u16::MAX].map(|code| (100, Respond(code))));
        script.push((200, Ack));
        assert_eq!(run(udp(), &script), []);
    }

    crate::transaction::trace::machine!(
        NonInviteServer,
        ServerInput,
        ServerOutput,
        State::Trying | State::Proceeding
    );

    proptest! {
        #![proptest_config(crate::transaction::trace::seeded())]

        #[test]
        fn every_sequence_keeps_the_rules(
            reliable in any::<bool>(),
            inputs in prop::collection::vec((0_u64..40_000, server_input()), 0..40),
        ) {
            check_sequence(NonInviteServer::new(Instant::ZERO, Timers::RFC3261, reliable), &inputs);
        }
    }

    fn server_input() -> impl Strategy<Value = ServerInput> {
        prop_oneof![
            4 => (50_u16..750).prop_map(Respond),
            2 => Just(Request),
            2 => Just(Ack),
            4 => Just(ServerInput::Timeout),
            1 => Just(TransportFailed),
        ]
    }
}
