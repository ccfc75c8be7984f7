//! The words that both planes speak: ids, times, settings, snapshots, commands, events, CDRs, counters.
//! Owns:  plain values and the configuration's two forms (file form, checked form).
//! Gives: types that are cheap to move through a lock-free queue.
//! Never: behaviour of a protocol, a socket, a clock, a thread.
//! Holds: nothing here depends on another crate of the project.
#![forbid(unsafe_code)]

pub mod account;
pub mod acl;
pub mod act;
pub mod ask;
pub mod by_name;
pub mod cdr;
pub mod command;
pub mod config;
pub mod document;
pub mod edge;
pub mod event;
pub mod failover;
pub mod forwarding;
pub mod headers;
pub mod ids;
pub mod journal;
pub mod limits;
pub mod metrics;
pub mod net;
pub mod originate;
pub mod route;
pub mod segment;
pub mod settings;
pub mod sipflow;
pub mod snapshot;
pub mod time;
pub mod toll;
pub mod trunk_options;
pub mod trunk_view;
