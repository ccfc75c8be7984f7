//! Decisions: everything that one shard knows and does about SIP, with no socket and no clock.
//! Owns:  registrations, calls, transactions, dialogs and timers of one shard.
//! Gives: `Core`: `handle_input(now, input)` in, `poll_output()` out, `deadline()` for the next wake-up.
//! Never: opens a socket, reads a clock, spawns a thread, blocks.
//! Holds: drain `poll_output` after every input; outputs are in the order they must take effect.
#![forbid(unsafe_code)]

mod acts;
mod ask;
mod b2bua;
mod budget;
mod challenged;
mod core;
mod desk;
mod edge;
mod enrolment;
mod entrances;
mod faces;
mod forwarding;
mod gate;
mod gruu;
mod guests;
mod health;
mod hunting;
mod invite;
pub mod io;
mod loan;
mod locate;
mod message;
mod mint;
mod notifier;
mod originate;
mod outbox;
mod overload;
mod place;
mod prelude;
mod proved;
mod receive;
mod refer;
mod registrar;
mod relays;
mod replace;
mod restate;
mod router;
mod slots;
mod stand_ins;
mod stateless;
mod steer;
mod toll;
mod transactions;
mod transfer;
mod trunk_views;
mod trunks;
mod wheel;

pub use self::core::{Census, Core};
pub use io::{Input, MeshMessage, Output};
pub use prelude::Earlier;
