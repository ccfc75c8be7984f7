//! `[[proxy.routes]]` and `[proxy.emergency]`: the dial plan of the files.
//! Owns:  `RouteConfig`: a rule with the place where it was written.
//! Gives: rules that were checked one by one and against each other.
//! Never: the rules of the database; names of trunks that it may hold are only warned about.
//! Holds: no two rules have one name.

use std::collections::HashMap;

use super::file::EmergencyFile;
use super::problem::{Origin, Report};
use super::rules::nearest;
use super::trunks::TrunkConfig;
use crate::document::{FlawKind, Flaws, Path};
use crate::route::{self, Emergency, ROUTES_MAX, Route};

#[derive(Clone, Debug)]
pub struct RouteConfig {
    pub route: Route,
    /// As it was written.
    pub document: serde_json::Value,
    pub origin: Origin,
}

pub(super) fn check(
    files: Vec<toml::Value>,
    trunks: &[TrunkConfig],
    report: &mut Report<'_>,
) -> Vec<RouteConfig> {
    if files.len() > ROUTES_MAX {
        let text = format!("has {} rules, at most {ROUTES_MAX}", files.len());
        report.error("proxy.routes", text);
    }
    let mut names: HashMap<Box<str>, String> = HashMap::new();
    let mut routes = Vec::new();
    for (place, file) in files.into_iter().take(ROUTES_MAX).enumerate() {
        let key = format!("proxy.routes[{place}]");
        let document = serde_json::to_value(file).unwrap_or_default();
        let Some(route) = read(&document, &key, report) else { continue };
        let origin = report.origin(&key);
        if let Some(first) = names.insert(route.name.clone(), origin.to_string()) {
            let text = format!("there is a rule named \"{}\" already, at {first}", route.name);
            report.error(&format!("{key}.name"), text);
        }
        for trunk in route.trunks() {
            unknown_trunk(trunk, trunks, &key, report);
        }
        routes.push(RouteConfig { route, document, origin });
    }
    routes
}

fn read(document: &serde_json::Value, key: &str, report: &mut Report<'_>) -> Option<Route> {
    let mut flaws = Flaws::default();
    let route = route::check(document, &Path::default(), &mut flaws);
    for flaw in flaws.0 {
        let below = flaw.path.dotted();
        let key = if below.is_empty() { key.to_owned() } else { format!("{key}.{below}") };
        match (flaw.kind, flaw.hint) {
            (FlawKind::NotUsed, _) => report.warning(&key, flaw.text),
            (FlawKind::UnknownField, hint) => report.unknown(&key, flaw.text, hint),
            (_, Some(hint)) => report.error_try(&key, flaw.text, hint),
            (_, None) => report.error(&key, flaw.text),
        }
    }
    route
}

fn unknown_trunk(name: &str, trunks: &[TrunkConfig], key: &str, report: &mut Report<'_>) {
    if trunks.iter().any(|trunk| trunk.name == name) {
        return;
    }
    let near = nearest(name, trunks.iter().map(|trunk| trunk.name.as_str()));
    let near = near.map(|near| format!(": did you mean \"{near}\"?")).unwrap_or_default();
    let text = format!("no trunk \"{name}\" is in the files{near}");
    report.warning_try(key, text, "it has to be one of the database");
}

/// The trunk may be one of the database.
pub(super) fn emergency(file: EmergencyFile, report: &mut Report<'_>) -> Option<Emergency> {
    const KEY: &str = "proxy.emergency";
    if !file.enabled.unwrap_or(false) {
        return None;
    }
    let numbers = file.numbers.unwrap_or_default();
    if numbers.is_empty() {
        report.error_try(KEY, "names no number", "write numbers = [\"112\"]");
    }
    for (place, number) in numbers.iter().enumerate() {
        let plain = |c: char| c.is_ascii_digit() || "*#+".contains(c);
        if number.is_empty() || number.len() > 32 || !number.chars().all(plain) {
            let text = format!("\"{number}\" is not a number that somebody dials");
            report.error(&format!("{KEY}.numbers[{place}]"), text);
        }
    }
    let Some(trunk) = file.emergency_trunk.filter(|name| !name.is_empty()) else {
        report.error_try(KEY, "names no trunk", "write emergency_trunk = \"NAME\"");
        return None;
    };
    let numbers = numbers.into_iter().map(Into::into).collect();
    Some(Emergency { numbers, trunk: trunk.into() })
}
