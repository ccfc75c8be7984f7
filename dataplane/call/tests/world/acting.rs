//! What tests of acts share: an act of a program, and the answers that came to it.

use shared::act::{Acted, CallAction, CallName, Refusal};
use shared::command::{Command, Question};
use shared::event::{Answer, Event};
use shared::ids::CallId;

use super::{Bench, settings};

pub fn bench() -> Bench {
    Bench::new(settings())
}

pub fn act(bench: &mut Bench, id: u64, call: CallName, action: CallAction) {
    bench.input(call::Input::Command(Command::Act { id, call, action }));
}

/// Answers to acts that came since the last look.
pub fn answers(bench: &mut Bench) -> Vec<(u64, Acted)> {
    let (acted, others) = std::mem::take(&mut bench.events)
        .into_iter()
        .partition(|event| matches!(event, Event::Answer { answer: Answer::Acted(_), .. }));
    bench.events = others;
    let acted: Vec<Event> = acted;
    let pair = |event| match event {
        Event::Answer { id, answer: Answer::Acted(acted), .. } => (id, acted),
        other => panic!("{other:?}"),
    };
    acted.into_iter().map(pair).collect()
}

pub fn standing(bench: &mut Bench) -> CallId {
    bench.input(call::Input::Command(Command::Ask { id: 0, question: Question::Calls }));
    let calls = bench.events.iter().rev().find_map(|event| match event {
        Event::Answer { answer: Answer::Calls(calls), .. } => Some(calls.clone()),
        _ => None,
    });
    let calls = calls.expect("it answers at once");
    assert_eq!(calls.len(), 1, "{calls:?}");
    calls[0].id
}

pub fn is_done(answers: &[(u64, Acted)], id: u64, call: CallId) -> bool {
    matches!(answers, [(found, Acted::Done { call: of, .. })] if (*found, *of) == (id, call))
}

/// What became of the one act that was answered since the last look.
pub fn only_answer(bench: &mut Bench, id: u64) -> Result<(), Refusal> {
    match answers(bench)[..] {
        [(found, Acted::Done { .. })] if found == id => Ok(()),
        [(found, Acted::Refused { why, .. })] if found == id => Err(why),
        ref others => panic!("{others:?}"),
    }
}

pub fn on(bench: &mut Bench, id: u64, action: CallAction) {
    let call = standing(bench);
    act(bench, id, CallName::Id(call), action);
}
