//! The control plane: starts the shards, feeds them, keeps what they report, answers programs and people.
//! Owns:  the program `ringgate`: command line, supervisor, database, recordings, HTTP.
//! Gives: `cli::run`, and the parts that the integration tests drive.
//! Never: touches a SIP message or an RTP packet; standing calls do not depend on it.
//! Holds: a call record that a shard wrote down, or a capture, is kept until it is stored.
#![forbid(unsafe_code)]

pub mod access;
pub mod api;
pub mod archive;
pub mod board;
pub mod cli;
pub mod configuration;
pub mod demo;
pub mod directory;
pub mod disk;
pub mod exit;
pub mod journal;
pub mod logs;
mod named_files;
pub mod names;
pub mod news;
pub mod plane;
pub mod prompts;
pub mod pump;
pub mod questions;
pub mod recordings;
pub mod recovery;
pub mod sipflow;
pub mod store;
pub mod supervisor;
mod tls_keys;
pub mod webhooks;

/// What we call ourselves in SIP, HTTP and on the command line.
pub const PRODUCT: &str = concat!("Ringgate/", env!("CARGO_PKG_VERSION"));
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
