//! Non-INVITE client transaction: one request out, at most one final response in (RFC 3261 17.1.2).
//! Owns:  the resend schedule (Timers E, F) and the lingering (Timer K).
//! Gives: at most one `ClientOutput` per input; drain it before the next.
//! Never: reads a clock, names a socket, allocates, looks inside a message.
//! Holds: `deadline()` is `None` exactly in `Terminated`, and nothing follows `Finished`.

use std::time::Duration;

use shared::time::Instant;

use super::{ClientInput, ClientOutput, Outcome, Outputs, Timers};

#[derive(Debug)]
pub struct NonInviteClient {
    state: State,
    timers: Timers,
    reliable: bool,
    outputs: Outputs<ClientOutput>,
}

#[derive(Clone, Copy, Debug)]
enum State {
    Trying(Attempt),
    Proceeding(Attempt),
    Completed { absorb_until: Instant },
    Terminated,
}

/// Timers E and F of a request that has no final response yet.
#[derive(Clone, Copy, Debug)]
struct Attempt {
    /// Absent on a reliable transport.
    resend_at: Option<Instant>,
    wait: Duration,
    give_up_at: Instant,
}

impl Attempt {
    fn resend_is_due(&self, now: Instant) -> bool {
        self.resend_at.is_some_and(|at| now >= at)
    }
}

impl NonInviteClient {
    pub fn new(now: Instant, timers: Timers, reliable: bool) -> Self {
        let wait = timers.t1;
        let resend_at = (!reliable).then(|| now + wait);
        let attempt = Attempt { resend_at, wait, give_up_at: now + timers.give_up_after() };
        let outputs = Outputs::first(ClientOutput::Send);
        Self { state: State::Trying(attempt), timers, reliable, outputs }
    }

    /// The whole transition table: one arm per edge; the last arm is every pair that is not one.
    pub fn handle_input(&mut self, now: Instant, input: ClientInput) {
        use {ClientInput::*, State::*};
        self.state = match (self.state, input) {
            (Trying(a) | Proceeding(a), Response(code @ 100..=199)) => {
                self.outputs.push(ClientOutput::Deliver(code));
                // The pending resend stays; from then on the waits are T2 (RFC 3261 17.1.2.2).
                Proceeding(Attempt { wait: self.timers.t2, ..a })
            }
            (Trying(_) | Proceeding(_), Response(code @ 200..=699)) => {
                self.outputs.push(ClientOutput::Deliver(code));
                Completed { absorb_until: now + self.timers.absorb_repeats_for(self.reliable) }
            }
            (Trying(a) | Proceeding(a), Timeout) if now >= a.give_up_at => {
                self.end(Outcome::TimedOut) // Timer F
            }
            (Trying(a), Timeout) if a.resend_is_due(now) => Trying(self.resend(now, a)),
            (Proceeding(a), Timeout) if a.resend_is_due(now) => Proceeding(self.resend(now, a)),
            (Trying(_) | Proceeding(_), TransportFailed) => self.end(Outcome::TransportFailed),
            (Completed { absorb_until }, Timeout) if now >= absorb_until => {
                self.end(Outcome::Answered) // Timer K
            }
            (unmoved, _) => unmoved, // early, late and repeated inputs are normal on UDP
        };
    }

    pub fn poll_output(&mut self) -> Option<ClientOutput> {
        self.outputs.take_first()
    }

    pub fn deadline(&self) -> Option<Instant> {
        match self.state {
            State::Trying(a) | State::Proceeding(a) => {
                Some(a.resend_at.map_or(a.give_up_at, |at| at.min(a.give_up_at)))
            }
            State::Completed { absorb_until } => Some(absorb_until),
            State::Terminated => None,
        }
    }

    /// Timer E.
    fn resend(&mut self, now: Instant, last: Attempt) -> Attempt {
        self.outputs.push(ClientOutput::Send);
        let wait = self.timers.next_wait(last.wait);
        Attempt { resend_at: Some(now + wait), wait, ..last }
    }

    fn end(&mut self, outcome: Outcome) -> State {
        self.outputs.push(ClientOutput::Finished(outcome));
        State::Terminated
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::transaction::trace::{check_sequence, run};
    use ClientInput::{Response, TransportFailed};
    use ClientOutput::{Deliver, Finished, Send};

    fn udp() -> NonInviteClient {
        NonInviteClient::new(Instant::ZERO, Timers::RFC3261, false)
    }

    fn tcp() -> NonInviteClient {
        NonInviteClient::new(Instant::ZERO, Timers::RFC3261, true)
    }

    /// A peer that never answers: Timer E doubles up to T2, Timer F ends it.
    #[test]
    fn trying_on_udp_sends_eleven_times_then_timer_f() {
        let sends = [0, 500, 1_500, 3_500, 7_500, 11_500, 15_500, 19_500, 23_500, 27_500, 31_500];
        let mut expected = Vec::from(sends.map(|at| (at, Send)));
        expected.push((32_000, Finished(Outcome::TimedOut)));
        assert_eq!(run(udp(), &[]), expected);
    }

    #[test]
    fn trying_on_a_reliable_transport_sends_once_then_timer_f() {
        assert_eq!(run(tcp(), &[]), [(0, Send), (32_000, Finished(Outcome::TimedOut))]);
    }

    /// RFC 3261 17.1.2.2: the pending Timer E fires, each further one after T2; Timer F stays.
    #[test]
    fn proceeding_sends_every_t2_and_timer_f_still_ends_it() {
        let trace = run(udp(), &[(600, Response(100)), (1_000, Response(183))]);
        let mut expected = vec![(0, Send), (500, Send), (600, Deliver(100)), (1_000, Deliver(183))];
        let sends = [1_500, 5_500, 9_500, 13_500, 17_500, 21_500, 25_500, 29_500];
        expected.extend(sends.map(|at| (at, Send)));
        expected.push((32_000, Finished(Outcome::TimedOut)));
        assert_eq!(trace, expected);
    }

    #[test]
    fn proceeding_on_a_reliable_transport_waits_for_timer_f() {
        let expected = [(0, Send), (600, Deliver(100)), (32_000, Finished(Outcome::TimedOut))];
        assert_eq!(run(tcp(), &[(600, Response(100))]), expected);
    }

    /// Every final class ends Trying; repeats are absorbed until Timer K.
    #[test]
    fn trying_delivers_one_final_response_and_absorbs_repeats_until_timer_k() {
        for code in [200, 202, 302, 404, 500, 603] {
            let trace = run(udp(), &[(100, Response(code)), (600, Response(code))]);
            let expected = [(0, Send), (100, Deliver(code)), (5_100, Finished(Outcome::Answered))];
            assert_eq!(trace, expected);
        }
    }

    #[test]
    fn proceeding_delivers_one_final_response_and_absorbs_repeats_until_timer_k() {
        let script = [(100, Response(100)), (200, Response(200)), (300, Response(486))];
        let expected = [
            (0, Send),
            (100, Deliver(100)),
            (200, Deliver(200)),
            (5_200, Finished(Outcome::Answered)),
        ];
        assert_eq!(run(udp(), &script), expected);
    }

    /// Timer K is zero on a reliable transport.
    #[test]
    fn a_final_response_on_a_reliable_transport_finishes_at_once() {
        let expected = [(0, Send), (100, Deliver(200)), (100, Finished(Outcome::Answered))];
        assert_eq!(run(tcp(), &[(100, Response(200))]), expected);
    }

    #[test]
    fn trying_ends_when_the_request_cannot_be_sent() {
        let expected = [(0, Send), (1, Finished(Outcome::TransportFailed))];
        assert_eq!(run(udp(), &[(1, TransportFailed)]), expected);
    }

    #[test]
    fn proceeding_ends_when_the_request_cannot_be_sent() {
        let trace = run(udp(), &[(1, Response(100)), (502, TransportFailed)]);
        let expected =
            [(0, Send), (1, Deliver(100)), (500, Send), (502, Finished(Outcome::TransportFailed))];
        assert_eq!(trace, expected);
    }

    #[test]
    fn completed_sends_nothing_so_no_transport_failure_is_its_own() {
        let trace = run(udp(), &[(100, Response(200)), (200, TransportFailed)]);
        assert_eq!(trace, run(udp(), &[(100, Response(200))]));
    }

    #[test]
    fn a_status_that_is_none_moves_nothing() {
        let script = [0, 99, 700, 999, u16::MAX].map(|code| (100, Response(code)));
        assert_eq!(run(udp(), &script), run(udp(), &[]));
    }

    #[test]
    fn an_early_timeout_moves_nothing() {
        let script = [(100, ClientInput::Timeout), (499, ClientInput::Timeout)];
        assert_eq!(run(udp(), &script), run(udp(), &[]));
    }

    // Timer F runs from the first instant to the last: no state waits for somebody.
    crate::transaction::trace::machine!(
        NonInviteClient,
        ClientInput,
        ClientOutput,
        State::Terminated
    );

    proptest! {
        #![proptest_config(crate::transaction::trace::seeded())]

        #[test]
        fn every_sequence_keeps_the_rules(
            reliable in any::<bool>(),
            inputs in prop::collection::vec((0_u64..40_000, client_input()), 0..40),
        ) {
            check_sequence(NonInviteClient::new(Instant::ZERO, Timers::RFC3261, reliable), &inputs);
        }
    }

    fn client_input() -> impl Strategy<Value = ClientInput> {
        prop_oneof![
            4 => (50_u16..750).prop_map(Response),
            4 => Just(ClientInput::Timeout),
            1 => Just(TransportFailed),
        ]
    }
}
