//! The walk through the rules: the first one that holds decides.
//! Owns:  what it means that a rule holds.
//! Gives: `first`, which says of every rule on the way why it did not hold.
//! Never: a second reading of the rules for explanations: they listen to this one.
//! Holds: one rule costs its conditions up to the first that fails, each linear in its value.

use shared::route::{Route, RouteDirection, RouteTable};

use super::dialled::Dialled;

/// What became of one rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    Disabled,
    Failed(Miss),
    Matched,
}

/// The first thing about a rule that did not hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Miss {
    /// The place of the condition.
    Condition(usize),
    Direction,
    SourceIp,
    SourceTrunk,
}

/// The first rule that holds. `note` hears of every rule that was asked, that one included.
pub(crate) fn first<'t>(
    table: &'t RouteTable,
    dialled: &Dialled<'_>,
    mut note: impl FnMut(&'t Route, Step),
) -> Option<&'t Route> {
    table.routes.iter().find(|route| {
        let step = if route.disabled {
            Step::Disabled
        } else {
            miss(route, dialled).map_or(Step::Matched, Step::Failed)
        };
        note(route, step);
        step == Step::Matched
    })
}

fn miss(route: &Route, dialled: &Dialled<'_>) -> Option<Miss> {
    if route.direction != RouteDirection::Any && route.direction != dialled.direction {
        return Some(Miss::Direction);
    }
    let named =
        |trunk: &str| route.source_trunks.iter().any(|known| known.eq_ignore_ascii_case(trunk));
    if !route.source_trunks.is_empty() && !dialled.source_trunk.is_some_and(named) {
        return Some(Miss::SourceTrunk);
    }
    let networks = &route.source_networks;
    if !networks.is_empty() && !networks.iter().any(|net| net.contains(dialled.source_ip)) {
        return Some(Miss::SourceIp);
    }
    let fails = |condition: &shared::route::Condition| {
        let value = dialled.value(&condition.field);
        !value.is_some_and(|value| condition.pattern.matches(&value))
    };
    route.conditions.iter().position(fails).map(Miss::Condition)
}
