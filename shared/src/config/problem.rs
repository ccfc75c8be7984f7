//! What is wrong with a configuration, and where it says so.
//! Owns:  `Problem`, `Origin`, the report that collects problems.
//! Gives: one line per problem: place, severity, key, what is wrong, what to do.
//! Never: stops at the first problem; prints a secret.
//! Holds: a report with an error never turns into a `Config`.

use std::fmt;
use std::sync::Arc;

use super::tree::Node;
use crate::event::Severity;

/// Where a value was written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Origin {
    #[default]
    Default,
    /// The name of the environment variable.
    Env(Arc<str>),
    /// Line 0 is the file as a whole.
    File { name: Arc<str>, line: u32 },
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::Env(name) => write!(f, "env {name}"),
            Self::File { name, line: 0 } => f.write_str(name),
            Self::File { name, line } => write!(f, "{name}:{line}"),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    pub severity: Severity,
    pub origin: Origin,
    /// Dotted, with list places: `proxy.user_backends[0].users[2].password`. Empty for syntax.
    pub key: String,
    pub text: String,
    pub suggestion: Option<String>,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let severity = match self.severity {
            Severity::Error => "error",
            Severity::Info => "note",
            Severity::Warning => "warning",
        };
        write!(f, "{}: {severity}: ", self.origin)?;
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        f.write_str(&self.text)?;
        match &self.suggestion {
            Some(suggestion) => write!(f, "; {suggestion}"),
            None => Ok(()),
        }
    }
}

/// Collects problems while the checks run; knows where each key was written.
#[derive(Debug)]
pub(super) struct Report<'t> {
    tree: &'t Node,
    strict: bool,
    problems: Vec<Problem>,
}

impl<'t> Report<'t> {
    pub(super) fn new(tree: &'t Node, strict: bool) -> Self {
        Self { tree, strict, problems: Vec::new() }
    }

    /// Where a key was written.
    pub(super) fn origin(&self, key: &str) -> Origin {
        self.tree.origin_of(key)
    }

    /// A key that nobody knows: an error only when that was asked for.
    pub(super) fn unknown(&mut self, key: &str, text: String, suggestion: Option<String>) {
        let severity = if self.strict { Severity::Error } else { Severity::Warning };
        self.push(severity, key, text, suggestion);
    }

    pub(super) fn error(&mut self, key: &str, text: impl Into<String>) {
        self.push(Severity::Error, key, text.into(), None);
    }

    pub(super) fn error_try(
        &mut self,
        key: &str,
        text: impl Into<String>,
        suggestion: impl Into<String>,
    ) {
        self.push(Severity::Error, key, text.into(), Some(suggestion.into()));
    }

    pub(super) fn warning(&mut self, key: &str, text: impl Into<String>) {
        self.push(Severity::Warning, key, text.into(), None);
    }

    pub(super) fn warning_try(
        &mut self,
        key: &str,
        text: impl Into<String>,
        suggestion: impl Into<String>,
    ) {
        self.push(Severity::Warning, key, text.into(), Some(suggestion.into()));
    }

    pub(super) fn into_problems(self) -> Vec<Problem> {
        self.problems
    }

    fn push(&mut self, severity: Severity, key: &str, text: String, suggestion: Option<String>) {
        let origin = self.tree.origin_of(key);
        self.problems.push(Problem { severity, origin, key: key.to_owned(), text, suggestion });
    }
}
