//! Machines in virtual time: a script of inputs goes in, the whole trace of outputs comes out.
//! Owns:  the clock of a test; it jumps from deadline to deadline.
//! Gives: `run` for one script, `check_sequence` for what must hold in every one.
//! Never: sleeps.
//! Holds: a machine that does not come to rest fails its test.

use std::fmt::Debug;

use proptest::prelude::ProptestConfig;
use proptest::test_runner::RngSeed;
use shared::time::Instant;

use super::Outcome;

/// More timer events than any machine has: eleven sends, and the end.
const EVENTS_MAX: usize = 32;

/// The same cases in every run, unless PROPTEST_RNG_SEED asks for others.
pub(crate) fn seeded() -> ProptestConfig {
    let mut config = ProptestConfig { failure_persistence: None, ..ProptestConfig::default() };
    if config.rng_seed == RngSeed::Random {
        config.rng_seed = RngSeed::Fixed(3_261);
    }
    config
}

pub(super) trait Machine {
    type Input: Copy + Debug;
    type Output: Copy + Debug + PartialEq;
    const TIMEOUT: Self::Input;
    fn handle_input(&mut self, now: Instant, input: Self::Input);
    fn poll_output(&mut self) -> Option<Self::Output>;
    fn deadline(&self) -> Option<Instant>;
    fn is_finished(&self) -> bool;
    /// In a state that only the peer or the user ends.
    fn is_waiting(&self) -> bool;
    fn finished(output: Self::Output) -> Option<Outcome>;
}

macro_rules! machine {
    ($machine:ty, $input:ident, $output:ident, $waiting:pat) => {
        impl $crate::transaction::trace::Machine for $machine {
            type Input = $crate::transaction::$input;
            type Output = $crate::transaction::$output;
            const TIMEOUT: Self::Input = $crate::transaction::$input::Timeout;
            fn handle_input(&mut self, now: Instant, input: Self::Input) {
                self.handle_input(now, input);
            }
            fn poll_output(&mut self) -> Option<Self::Output> {
                self.poll_output()
            }
            fn deadline(&self) -> Option<Instant> {
                self.deadline()
            }
            fn is_finished(&self) -> bool {
                matches!(self.state, State::Terminated)
            }
            fn is_waiting(&self) -> bool {
                matches!(self.state, $waiting)
            }
            fn finished(output: Self::Output) -> Option<$crate::transaction::Outcome> {
                match output {
                    $crate::transaction::$output::Finished(outcome) => Some(outcome),
                    _ => None,
                }
            }
        }
    };
}
pub(super) use machine;

/// Feeds each input at its time (ms), fires every timer in between, and then lets time run out.
pub(super) fn run<M: Machine>(mut machine: M, script: &[(u64, M::Input)]) -> Vec<(u64, M::Output)> {
    let mut trace = Vec::new();
    drain(&mut machine, Instant::ZERO, &mut trace);
    for &(at_ms, input) in script {
        let at = Instant::from_millis(at_ms);
        fire_timers(&mut machine, Some(at), &mut trace);
        machine.handle_input(at, input);
        drain(&mut machine, at, &mut trace);
    }
    fire_timers(&mut machine, None, &mut trace);
    trace
}

/// Fires the deadlines before `end`, or all there are.
fn fire_timers<M: Machine>(
    machine: &mut M,
    end: Option<Instant>,
    trace: &mut Vec<(u64, M::Output)>,
) {
    for _ in 0..EVENTS_MAX {
        let due = machine.deadline().filter(|&deadline| end.is_none_or(|end| deadline < end));
        let Some(now) = due else { return };
        machine.handle_input(now, M::TIMEOUT);
        drain(machine, now, trace);
    }
    panic!("the machine does not come to rest");
}

fn drain<M: Machine>(machine: &mut M, now: Instant, trace: &mut Vec<(u64, M::Output)>) {
    while let Some(output) = machine.poll_output() {
        trace.push((now.as_millis(), output));
    }
}

/// What holds for every machine under every sequence of inputs, each `(ms since the last, input)`.
pub(super) fn check_sequence<M: Machine>(mut machine: M, inputs: &[(u64, M::Input)]) {
    let (mut now, mut trace) = (Instant::ZERO, Vec::new());
    drain(&mut machine, now, &mut trace);
    for &(step_ms, input) in inputs {
        now = Instant::from_millis(now.as_millis() + step_ms);
        let count = trace.len();
        machine.handle_input(now, input);
        drain(&mut machine, now, &mut trace);
        assert!(trace.len() <= count + 2, "more than two outputs for {input:?}");
        check_rest(&machine, &trace);
    }
    fire_timers(&mut machine, None, &mut trace);
    check_rest(&machine, &trace);
    assert!(machine.is_finished() || machine.is_waiting(), "time alone ends {trace:?}");
}

fn check_rest<M: Machine>(machine: &M, trace: &[(u64, M::Output)]) {
    let finished = trace.iter().position(|&(_, output)| M::finished(output).is_some());
    assert_eq!(finished.is_some(), machine.is_finished(), "{trace:?}");
    assert!(finished.is_none_or(|at| at + 1 == trace.len()), "outputs after Finished: {trace:?}");
    let has_no_deadline = machine.is_finished() || machine.is_waiting();
    assert_eq!(machine.deadline().is_none(), has_no_deadline, "{trace:?}");
}
