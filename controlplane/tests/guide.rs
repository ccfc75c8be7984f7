//! The guide, section by section, by a client that was written from the guide and the contract alone:
//! its JSON samples field by field, its configuration samples as they are printed, real SIP peers and
//! a real HTTP server on the other side. Needs io_uring.

mod integrator;

#[path = "guide/access.rs"]
mod access;
#[path = "guide/ami.rs"]
mod ami;
#[path = "guide/calls.rs"]
mod calls;
#[path = "guide/commands.rs"]
mod commands;
#[path = "guide/history.rs"]
mod history;
#[path = "guide/locator.rs"]
mod locator;
#[path = "guide/push.rs"]
mod push;
#[path = "guide/resources.rs"]
mod resources;
#[path = "guide/router.rs"]
mod router;
#[path = "guide/router_answers.rs"]
mod router_answers;
#[path = "guide/signature.rs"]
mod signature;
#[path = "guide/user_backend.rs"]
mod user_backend;
#[path = "guide/v1.rs"]
mod v1;
