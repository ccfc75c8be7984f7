//! The test world: the real `call::Core` and `media::relay::Relays` of one or more shards, phones,
//! a trunk and a bad network, in virtual time under a seed.
//! Owns:  the world, its phones and their script, the checker that watches every step.
//! Gives: `scenario::run` for a random evening, `World` for a test that writes its own.
//! Never: `shard`; a real clock, socket or thread; a hook inside the code that it tests.
//! Holds: a seed is a whole run: the same seed gives the same trace, bit by bit.
//!
//! A world is built from settings and phones, told what happens, and run:
//!
//! ```
//! use std::time::Duration;
//! use sim::phone::plan::CallerPlan;
//! use sim::spec::{PhoneSpec, WorldSettings};
//! use sim::world::World;
//!
//! let phones = [PhoneSpec::user("1001"), PhoneSpec::user("1002")];
//! let mut world = World::started(WorldSettings::calm(1), &phones)?;
//! world.call(0, CallerPlan::to("sip:1002@ringgate.test"));
//! world.run_for(Duration::from_secs(30))?;
//! assert_eq!(world.noted().record().status_code, 200);
//! world.finish()?;
//! # Ok::<(), sim::world::Failure>(())
//! ```
#![forbid(unsafe_code)]

pub mod agenda;
pub mod broken;
mod deliver;
mod feed;
pub mod finish;
pub mod flows;
pub mod ledger;
pub mod network;
pub mod noted;
pub mod phone;
pub mod program;
pub mod random;
pub mod scenario;
pub mod shell;
pub mod spec;
pub mod speech;
pub mod trace;
pub mod world;
