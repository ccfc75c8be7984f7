//! A trial of a call: the same decision, with every step written down.
//! Owns:  the wording of an explanation.
//! Gives: `explain`.
//! Never: a look at the rules of its own; `decide` tells it what it does.
//! Holds: a trial changes nothing: no turn is taken, no trunk's share is counted.

use shared::headers::ExtraHeader;
use shared::net::Source;
use shared::route::{Chosen, Explanation, Route, RuleOutcome, RuleVerdict, Trial};
use shared::snapshot::Trunk;

use super::dialled::Dialled;
use super::rewrite::{Over, Rewritten};
use super::walk::{Miss, Step};
use super::{Decision, Note, Outlook, decide};
use crate::b2bua::compose::readable;

/// `trunk`: whom a call from this source belongs to.
pub(crate) fn explain(
    outlook: Outlook<'_>,
    trial: &Trial,
    source: &Source,
    trunk: Option<&Trunk>,
) -> Explanation {
    let mut explanation = Explanation {
        generation: outlook.desk.snapshot.generation,
        direction: if trunk.is_some() { "inbound" } else { "outbound" },
        before_rules: None,
        rules: Vec::new(),
        matched: None,
        rewrites: Vec::new(),
        outcome: Chosen::Refuse {
            status: 400,
            reason: None,
            because: "an address cannot be read".to_owned(),
        },
    };
    let trunk = trunk.map(|trunk| &*trunk.name);
    let Ok(dialled) = Dialled::of_trial(trial, source.peer.ip(), trunk) else { return explanation };
    let mut note = |note: Note<'_>| match note {
        Note::Before(what) => explanation.before_rules = Some(what),
        Note::Rewritten(rewritten) => explanation.rewrites = listed(rewritten),
        Note::Rule(route, step) => {
            if step == Step::Matched {
                explanation.matched = Some(route.name.to_string());
            }
            explanation.rules.push(outcome(route, step, &dialled));
        }
    };
    let decision = decide(outlook, &dialled, &mut note);
    explanation.outcome = chosen(&decision);
    explanation
}

pub(super) fn chosen(decision: &Decision) -> Chosen {
    match decision {
        Decision::Refuse(refusal) => Chosen::Refuse {
            status: refusal.status,
            reason: refusal.reason.as_deref().map(str::to_owned),
            because: refusal.because.to_string(),
        },
        Decision::Trunks(to) => {
            let first = to.choices.first();
            let uri = first.and_then(|choice| sip::wire::Uri::parse(&choice.target.uri).ok());
            let mut trunks: Vec<String> =
                to.choices.iter().map(|choice| choice.trunk.to_string()).collect();
            trunks.dedup(); // a trunk and its second destination
            Chosen::Trunks {
                trunks,
                request_user: uri.map_or_else(String::new, |uri| readable(&uri.user_unescaped())),
                max_ring_time: first.and_then(|choice| choice.changes.ring).map(|d| d.as_secs()),
            }
        }
        Decision::User { user, .. } | Decision::Unlisted { user } => {
            Chosen::User { user: user.to_string() }
        }
    }
}

fn outcome(route: &Route, step: Step, dialled: &Dialled<'_>) -> RuleOutcome {
    let failed = |condition: &str, expected: String, found: Option<String>| RuleVerdict::Failed {
        condition: condition.to_owned(),
        expected,
        found,
    };
    let verdict = match step {
        Step::Disabled => RuleVerdict::Disabled,
        Step::Matched => RuleVerdict::Matched,
        Step::Failed(Miss::Direction) => failed(
            "direction",
            route.direction.as_str().to_owned(),
            Some(dialled.direction.as_str().to_owned()),
        ),
        Step::Failed(Miss::SourceIp) => failed(
            "source_ips",
            "one of the rule's networks".to_owned(),
            Some(dialled.source_ip.to_string()),
        ),
        Step::Failed(Miss::SourceTrunk) => failed(
            "source_trunks",
            route.source_trunks.join(", "),
            dialled.source_trunk.map(str::to_owned),
        ),
        Step::Failed(Miss::Condition(place)) => {
            let condition = &route.conditions[place];
            let found = dialled.value(&condition.field).map(|value| readable(&value));
            failed(&condition.field.name(), condition.pattern.text().to_owned(), found)
        }
    };
    RuleOutcome { name: route.name.to_string(), priority: route.priority, verdict }
}

fn listed(rewritten: &Rewritten) -> Vec<(String, String)> {
    let Rewritten { from, to, request, headers } = rewritten;
    let mut list = Vec::new();
    for (name, Over { user, host, port }) in [("from", from), ("to", to), ("request_uri", request)]
    {
        for (part, value) in [("user", user), ("host", host)] {
            if let Some(value) = value {
                list.push((format!("{name}.{part}"), readable(value)));
            }
        }
        if let Some(port) = port {
            list.push((format!("{name}.port"), port.to_string()));
        }
    }
    let line =
        |header: &ExtraHeader| (format!("header.{}", header.name()), header.value().to_owned());
    list.extend(headers.iter().map(line));
    list
}
