//! INVITE server transaction: RFC 3261 17.2.1 with the Accepted state of RFC 6026 7.1.
//! Owns:  the repeats of a 300-699 response (Timers G, H) and the lingering (Timers I, L).
//! Gives: at most one `ServerOutput` per input; drain it before the next.
//! Never: reads a clock, names a socket, looks inside a message, repeats a 2xx.
//! Holds: `deadline()` is `None` only in `Proceeding` and `Terminated`; nothing follows `Finished`.

use std::time::Duration;

use shared::time::Instant;

use super::{Outcome, Outputs, ServerInput, ServerOutput, Timers};

#[derive(Debug)]
pub struct InviteServer {
    state: State,
    timers: Timers,
    reliable: bool,
    outputs: Outputs<ServerOutput>,
}

/// There is no edge for a failed transport: RFC 6026 leaves the machine where it is, so that it
/// goes on to absorb repeats. The table, which reported the failure, tells the user.
#[derive(Clone, Copy, Debug)]
enum State {
    Proceeding { responded: bool },
    Accepted { forget_at: Instant },
    Completed { resend: Option<Resend>, give_up_at: Instant },
    Confirmed { absorb_until: Instant },
    Terminated,
}

/// Timer G; absent on a reliable transport.
#[derive(Clone, Copy, Debug)]
struct Resend {
    at: Instant,
    wait: Duration,
}

impl InviteServer {
    pub fn new(_now: Instant, timers: Timers, reliable: bool) -> Self {
        let state = State::Proceeding { responded: false };
        Self { state, timers, reliable, outputs: Outputs::none() }
    }

    /// The whole transition table: one arm per edge; the last arm is every pair that is not one.
    pub fn handle_input(&mut self, now: Instant, input: ServerInput) {
        use {ServerInput::*, State::*};
        self.state = match (self.state, input) {
            (Proceeding { responded: true }, Request) => {
                self.outputs.push(ServerOutput::Send);
                self.state
            }
            (Proceeding { .. }, Respond(100..=199)) => {
                self.outputs.push(ServerOutput::Send);
                Proceeding { responded: true }
            }
            (Proceeding { .. }, Respond(200..=299)) => {
                self.outputs.push(ServerOutput::Send);
                Accepted { forget_at: now + self.timers.give_up_after() } // Timer L
            }
            (Proceeding { .. }, Respond(300..=699)) => {
                self.outputs.push(ServerOutput::Send);
                let wait = self.timers.t1;
                let resend = (!self.reliable).then(|| Resend { at: now + wait, wait });
                Completed { resend, give_up_at: now + self.timers.give_up_after() }
            }
            (Accepted { .. }, Respond(200..=299)) => {
                self.outputs.push(ServerOutput::Send);
                self.state
            }
            (Accepted { forget_at }, Timeout) if now >= forget_at => self.end(Outcome::Answered),
            (Completed { .. }, Request) => {
                self.outputs.push(ServerOutput::Send);
                self.state
            }
            (Completed { .. }, Ack) => {
                // Timer I
                Confirmed { absorb_until: now + self.timers.absorb_repeats_for(self.reliable) }
            }
            (Completed { give_up_at, .. }, Timeout) if now >= give_up_at => {
                self.end(Outcome::TimedOut) // Timer H
            }
            (Completed { resend: Some(resend), give_up_at }, Timeout) if now >= resend.at => {
                self.outputs.push(ServerOutput::Send);
                let wait = self.timers.next_wait(resend.wait);
                Completed { resend: Some(Resend { at: now + wait, wait }), give_up_at }
            }
            (Confirmed { absorb_until }, Timeout) if now >= absorb_until => {
                self.end(Outcome::Answered)
            }
            (unmoved, _) => unmoved, // early, late and repeated inputs are normal on UDP
        };
    }

    pub fn poll_output(&mut self) -> Option<ServerOutput> {
        self.outputs.take_first()
    }

    pub fn deadline(&self) -> Option<Instant> {
        match self.state {
            State::Accepted { forget_at } => Some(forget_at),
            State::Completed { resend: Some(resend), give_up_at } => {
                Some(resend.at.min(give_up_at))
            }
            State::Completed { resend: None, give_up_at } => Some(give_up_at),
            State::Confirmed { absorb_until } => Some(absorb_until),
            State::Proceeding { .. } | State::Terminated => None,
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

    fn udp() -> InviteServer {
        InviteServer::new(Instant::ZERO, Timers::RFC3261, false)
    }

    fn tcp() -> InviteServer {
        InviteServer::new(Instant::ZERO, Timers::RFC3261, true)
    }

    /// No response yet: there is nothing to repeat (the core has sent the 100 by itself).
    #[test]
    fn proceeding_without_a_response_absorbs_repeats() {
        assert_eq!(run(udp(), &[(500, Request), (1_500, Request)]), []);
    }

    /// RFC 3261 17.2.1: a repeat gets the latest provisional response.
    #[test]
    fn proceeding_answers_a_repeat_with_the_provisional_response() {
        let script = [(100, Respond(180)), (500, Request), (600, Respond(183)), (1_500, Request)];
        assert_eq!(run(udp(), &script), [(100, Send), (500, Send), (600, Send), (1_500, Send)]);
    }

    /// RFC 6026 7.1: the machine sends a 2xx once and absorbs repeated INVITEs until Timer L.
    #[test]
    fn accepted_absorbs_repeats_until_timer_l() {
        let script = [(100, Respond(180)), (200, Respond(200)), (500, Request), (1_500, Request)];
        let expected = [(100, Send), (200, Send), (32_200, Finished(Outcome::Answered))];
        assert_eq!(run(udp(), &script), expected);
        assert_eq!(run(tcp(), &script), expected);
    }

    /// RFC 6026 7.1: the dialog repeats its 2xx through the machine.
    #[test]
    fn accepted_sends_the_2xx_that_the_user_repeats() {
        let script = [(200, Respond(200)), (700, Respond(200)), (1_700, Respond(200))];
        let expected =
            [(200, Send), (700, Send), (1_700, Send), (32_200, Finished(Outcome::Answered))];
        assert_eq!(run(udp(), &script), expected);
    }

    #[test]
    fn accepted_takes_no_other_response_and_leaves_the_ack_to_the_dialog() {
        let script = [(200, Respond(200)), (300, Respond(486)), (400, Respond(180)), (500, Ack)];
        assert_eq!(run(udp(), &script), run(udp(), &script[..1]));
    }

    /// A peer that never acknowledges: Timer G doubles up to T2, Timer H ends it.
    #[test]
    fn completed_on_udp_sends_eleven_times_then_timer_h() {
        let sends = [0, 500, 1_500, 3_500, 7_500, 11_500, 15_500, 19_500, 23_500, 27_500, 31_500];
        let mut expected = Vec::from(sends.map(|at| (100 + at, Send)));
        expected.push((32_100, Finished(Outcome::TimedOut)));
        for code in [300, 302, 401, 486, 500, 603, 699] {
            assert_eq!(run(udp(), &[(100, Respond(code))]), expected);
        }
    }

    #[test]
    fn completed_on_a_reliable_transport_sends_once_then_timer_h() {
        let expected = [(100, Send), (32_100, Finished(Outcome::TimedOut))];
        assert_eq!(run(tcp(), &[(100, Respond(486))]), expected);
    }

    /// A repeated INVITE gets the response at once and leaves Timer G as it is.
    #[test]
    fn completed_answers_a_repeat() {
        let trace = run(udp(), &[(100, Respond(486)), (550, Request), (700, Ack)]);
        let expected =
            [(100, Send), (550, Send), (600, Send), (5_700, Finished(Outcome::Answered))];
        assert_eq!(trace, expected);
    }

    #[test]
    fn completed_takes_no_further_response() {
        let script = [(100, Respond(486)), (150, Respond(200)), (160, Respond(503)), (200, Ack)];
        assert_eq!(run(udp(), &script), [(100, Send), (5_200, Finished(Outcome::Answered))]);
    }

    /// Timer I: late ACKs and INVITEs are absorbed for T4.
    #[test]
    fn confirmed_absorbs_acks_and_repeats_until_timer_i() {
        let script = [(100, Respond(486)), (200, Ack), (300, Ack), (400, Request)];
        assert_eq!(run(udp(), &script), [(100, Send), (5_200, Finished(Outcome::Answered))]);
    }

    /// Timer I is zero on a reliable transport.
    #[test]
    fn an_ack_on_a_reliable_transport_finishes_at_once() {
        let trace = run(tcp(), &[(100, Respond(486)), (200, Ack)]);
        assert_eq!(trace, [(100, Send), (200, Finished(Outcome::Answered))]);
    }

    /// RFC 6026: a failed send leaves each state as it is.
    #[test]
    fn no_state_ends_by_a_transport_failure() {
        let script = [(100, Respond(180)), (101, TransportFailed), (102, Request)];
        assert_eq!(run(udp(), &script), [(100, Send), (102, Send)], "Proceeding");
        let script = [(100, Respond(200)), (101, TransportFailed)];
        assert_eq!(run(udp(), &script), run(udp(), &script[..1]), "Accepted");
        let script = [(100, Respond(486)), (101, TransportFailed)];
        assert_eq!(run(udp(), &script), run(udp(), &script[..1]), "Completed");
        let script = [(100, Respond(486)), (200, Ack), (201, TransportFailed)];
        assert_eq!(run(udp(), &script), run(udp(), &script[..2]), "Confirmed");
    }

    #[test]
    fn an_ack_before_a_final_response_moves_nothing() {
        assert_eq!(run(udp(), &[(100, Ack), (200, Respond(180)), (300, Ack)]), [(200, Send)]);
    }

    #[test]
    fn a_status_that_is_none_moves_nothing() {
        let script = [0, 99, 700, 999, u16::MAX].map(|code| (100, Respond(code)));
        assert_eq!(run(udp(), &script), []);
    }

    crate::transaction::trace::machine!(
        InviteServer,
        ServerInput,
        ServerOutput,
        State::Proceeding { .. }
    );

    proptest! {
        #![proptest_config(crate::transaction::trace::seeded())]

        #[test]
        fn every_sequence_keeps_the_rules(
            reliable in any::<bool>(),
            inputs in prop::collection::vec((0_u64..40_000, server_input()), 0..40),
        ) {
            check_sequence(InviteServer::new(Instant::ZERO, Timers::RFC3261, reliable), &inputs);
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
