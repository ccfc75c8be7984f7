//! INVITE client transaction: RFC 3261 17.1.1 with the Accepted state of RFC 6026 7.2.
//! Owns:  the resend schedule (Timers A, B) and the lingering (Timers D, M).
//! Gives: at most two `ClientOutput`s per input; drain them before the next.
//! Never: reads a clock, names a socket, looks inside a message, acknowledges a 2xx.
//! Holds: `deadline()` is `None` only in `Proceeding` and `Terminated`; nothing follows `Finished`.

use std::time::Duration;

use shared::time::Instant;

use super::{ClientInput, ClientOutput, Outcome, Outputs, Timers};

#[derive(Debug)]
pub struct InviteClient {
    state: State,
    timers: Timers,
    reliable: bool,
    outputs: Outputs<ClientOutput>,
}

#[derive(Clone, Copy, Debug)]
enum State {
    Calling {
        resend: Option<Resend>,
        give_up_at: Instant,
    },
    /// Somebody answers; how long it may ring is the user's decision (RFC 3261 17.1.1.2).
    Proceeding,
    Accepted {
        forget_at: Instant,
    },
    Completed {
        absorb_until: Instant,
    },
    Terminated,
}

/// Timer A; absent on a reliable transport.
#[derive(Clone, Copy, Debug)]
struct Resend {
    at: Instant,
    wait: Duration,
}

impl InviteClient {
    pub fn new(now: Instant, timers: Timers, reliable: bool) -> Self {
        let wait = timers.t1;
        let resend = (!reliable).then(|| Resend { at: now + wait, wait });
        let state = State::Calling { resend, give_up_at: now + timers.give_up_after() };
        Self { state, timers, reliable, outputs: Outputs::first(ClientOutput::Send) }
    }

    /// The whole transition table: one arm per edge; the last arm is every pair that is not one.
    pub fn handle_input(&mut self, now: Instant, input: ClientInput) {
        use {ClientInput::*, State::*};
        self.state = match (self.state, input) {
            (Calling { .. } | Proceeding, Response(code @ 100..=199)) => {
                self.outputs.push(ClientOutput::Deliver(code));
                Proceeding
            }
            (Calling { .. } | Proceeding, Response(code @ 200..=299)) => {
                self.outputs.push(ClientOutput::Deliver(code));
                Accepted { forget_at: now + self.timers.give_up_after() } // Timer M
            }
            (Calling { .. } | Proceeding, Response(code @ 300..=699)) => {
                // The ACK goes first: the user may answer a challenge with the next INVITE at once.
                self.outputs.push(ClientOutput::SendAck);
                self.outputs.push(ClientOutput::Deliver(code));
                Completed { absorb_until: now + self.timers.absorb_finals_for(self.reliable) }
            }
            (Calling { give_up_at, .. }, Timeout) if now >= give_up_at => {
                self.end(Outcome::TimedOut) // Timer B
            }
            (Calling { resend: Some(resend), give_up_at }, Timeout) if now >= resend.at => {
                self.outputs.push(ClientOutput::Send);
                let wait = resend.wait.saturating_mul(2); // Timer A is not capped by T2
                Calling { resend: Some(Resend { at: now + wait, wait }), give_up_at }
            }
            // In Completed it is the ACK that could not be sent (RFC 3261 17.1.1.2).
            (Calling { .. } | Completed { .. }, TransportFailed) => {
                self.end(Outcome::TransportFailed)
            }
            (Accepted { .. }, Response(code @ 200..=299)) => {
                // A repeat, or another branch of a fork: the dialogs tell them apart.
                self.outputs.push(ClientOutput::Deliver(code));
                self.state
            }
            (Accepted { forget_at }, Timeout) if now >= forget_at => self.end(Outcome::Answered),
            (Completed { .. }, Response(300..=699)) => {
                self.outputs.push(ClientOutput::SendAck);
                self.state
            }
            (Completed { absorb_until }, Timeout) if now >= absorb_until => {
                self.end(Outcome::Answered) // Timer D
            }
            (unmoved, _) => unmoved, // early, late and repeated inputs are normal on UDP
        };
    }

    pub fn poll_output(&mut self) -> Option<ClientOutput> {
        self.outputs.take_first()
    }

    pub fn deadline(&self) -> Option<Instant> {
        match self.state {
            State::Calling { resend: Some(resend), give_up_at } => Some(resend.at.min(give_up_at)),
            State::Calling { resend: None, give_up_at } => Some(give_up_at),
            State::Accepted { forget_at } => Some(forget_at),
            State::Completed { absorb_until } => Some(absorb_until),
            State::Proceeding | State::Terminated => None,
        }
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
    use ClientOutput::{Deliver, Finished, Send, SendAck};

    fn udp() -> InviteClient {
        InviteClient::new(Instant::ZERO, Timers::RFC3261, false)
    }

    fn tcp() -> InviteClient {
        InviteClient::new(Instant::ZERO, Timers::RFC3261, true)
    }

    /// A peer that never answers: Timer A doubles without end, Timer B ends it.
    #[test]
    fn calling_on_udp_sends_seven_times_then_timer_b() {
        let sends = [0, 500, 1_500, 3_500, 7_500, 15_500, 31_500];
        let mut expected = Vec::from(sends.map(|at| (at, Send)));
        expected.push((32_000, Finished(Outcome::TimedOut)));
        assert_eq!(run(udp(), &[]), expected);
    }

    #[test]
    fn calling_on_a_reliable_transport_sends_once_then_timer_b() {
        assert_eq!(run(tcp(), &[]), [(0, Send), (32_000, Finished(Outcome::TimedOut))]);
    }

    /// RFC 3261 17.1.1.2: neither Timer A nor Timer B runs once somebody answers.
    #[test]
    fn a_provisional_response_stops_timers_a_and_b() {
        let trace =
            run(udp(), &[(600, Response(100)), (700, Response(180)), (90_000, Response(183))]);
        let expected = [
            (0, Send),
            (500, Send),
            (600, Deliver(100)),
            (700, Deliver(180)),
            (90_000, Deliver(183)),
        ];
        assert_eq!(trace, expected);
    }

    /// RFC 6026 7.2: every 2xx is delivered for 64*T1 after the first one, from whichever branch.
    #[test]
    fn calling_accepts_a_2xx_and_timer_m_ends_it() {
        let trace =
            run(udp(), &[(200, Response(200)), (700, Response(200)), (32_100, Response(202))]);
        let expected = [
            (0, Send),
            (200, Deliver(200)),
            (700, Deliver(200)),
            (32_100, Deliver(202)),
            (32_200, Finished(Outcome::Answered)),
        ];
        assert_eq!(trace, expected);
    }

    #[test]
    fn proceeding_accepts_a_2xx_on_a_reliable_transport_with_the_same_timer_m() {
        let trace = run(tcp(), &[(10, Response(180)), (5_000, Response(200))]);
        let expected = [
            (0, Send),
            (10, Deliver(180)),
            (5_000, Deliver(200)),
            (37_000, Finished(Outcome::Answered)),
        ];
        assert_eq!(trace, expected);
    }

    #[test]
    fn accepted_absorbs_what_is_not_a_2xx() {
        let late = [Response(180), Response(302), Response(486), Response(603), TransportFailed];
        let mut script = vec![(100, Response(200))];
        script.extend(late.map(|input| (200, input)));
        let expected = [(0, Send), (100, Deliver(200)), (32_100, Finished(Outcome::Answered))];
        assert_eq!(run(udp(), &script), expected);
    }

    /// RFC 3261 17.1.1.2: the ACK is sent for each copy, the response is delivered once.
    #[test]
    fn calling_acknowledges_a_failure_and_its_repeats_until_timer_d() {
        let trace =
            run(udp(), &[(100, Response(486)), (600, Response(486)), (1_600, Response(486))]);
        let expected = [
            (0, Send),
            (100, SendAck),
            (100, Deliver(486)),
            (600, SendAck),
            (1_600, SendAck),
            (32_100, Finished(Outcome::Answered)),
        ];
        assert_eq!(trace, expected);
    }

    #[test]
    fn proceeding_acknowledges_every_class_of_failure() {
        for code in [300, 302, 401, 487, 500, 603, 699] {
            let trace = run(udp(), &[(100, Response(180)), (200, Response(code))]);
            let expected = [
                (0, Send),
                (100, Deliver(180)),
                (200, SendAck),
                (200, Deliver(code)),
                (32_200, Finished(Outcome::Answered)),
            ];
            assert_eq!(trace, expected);
        }
    }

    /// Timer D is zero on a reliable transport.
    #[test]
    fn a_failure_on_a_reliable_transport_finishes_at_once() {
        let expected =
            [(0, Send), (100, SendAck), (100, Deliver(404)), (100, Finished(Outcome::Answered))];
        assert_eq!(run(tcp(), &[(100, Response(404))]), expected);
    }

    /// Timer D is at least 32 s even where T1 is short.
    #[test]
    fn timer_d_does_not_shrink_with_t1() {
        let timers = Timers { t1: Duration::from_millis(100), ..Timers::RFC3261 };
        let machine = InviteClient::new(Instant::ZERO, timers, false);
        let trace = run(machine, &[(50, Response(486))]);
        assert_eq!(trace.last(), Some(&(32_050, Finished(Outcome::Answered))));
    }

    #[test]
    fn completed_absorbs_what_is_not_a_failure() {
        let script = [(100, Response(486)), (200, Response(180)), (300, Response(200))];
        let expected =
            [(0, Send), (100, SendAck), (100, Deliver(486)), (32_100, Finished(Outcome::Answered))];
        assert_eq!(run(udp(), &script), expected);
    }

    #[test]
    fn calling_ends_when_the_invite_cannot_be_sent() {
        let expected = [(0, Send), (3, Finished(Outcome::TransportFailed))];
        assert_eq!(run(udp(), &[(3, TransportFailed)]), expected);
    }

    #[test]
    fn completed_ends_when_the_ack_cannot_be_sent() {
        let trace = run(udp(), &[(100, Response(486)), (101, TransportFailed)]);
        let expected = [
            (0, Send),
            (100, SendAck),
            (100, Deliver(486)),
            (101, Finished(Outcome::TransportFailed)),
        ];
        assert_eq!(trace, expected);
    }

    /// Nothing of the transaction is on its way in Proceeding, so the failure is another's.
    #[test]
    fn proceeding_outlives_a_transport_failure() {
        let trace = run(udp(), &[(10, Response(180)), (20, TransportFailed), (30, Response(200))]);
        assert_eq!(trace[1..3], [(10, Deliver(180)), (30, Deliver(200))]);
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

    /// A shard that slept does not catch up with a burst: one send, then the usual waits.
    #[test]
    fn a_late_timeout_sends_once() {
        let mut machine = udp();
        assert_eq!(machine.poll_output(), Some(Send));
        machine.handle_input(Instant::from_millis(9_000), ClientInput::Timeout);
        assert_eq!((machine.poll_output(), machine.poll_output()), (Some(Send), None));
        assert_eq!(machine.deadline(), Some(Instant::from_millis(10_000)));
    }

    crate::transaction::trace::machine!(InviteClient, ClientInput, ClientOutput, State::Proceeding);

    proptest! {
        #![proptest_config(crate::transaction::trace::seeded())]

        #[test]
        fn every_sequence_keeps_the_rules(
            reliable in any::<bool>(),
            inputs in prop::collection::vec((0_u64..40_000, client_input()), 0..40),
        ) {
            check_sequence(InviteClient::new(Instant::ZERO, Timers::RFC3261, reliable), &inputs);
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
