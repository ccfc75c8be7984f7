//! What an integrator has who knows the guide and nothing else: an HTTP client, a server that writes
//! down what it is told, SIP peers that speak raw text, and a gateway that runs with his configuration.
#![allow(dead_code, reason = "each test binary uses its part")]

pub(crate) mod agent;
pub(crate) mod bucket;
pub(crate) mod client;
pub(crate) mod form;
pub(crate) mod gate;
pub(crate) mod receiver;
pub(crate) mod shape;
pub(crate) mod sip;
pub(crate) mod talk;

use std::time::Duration;

/// Enough for anything that the guide calls immediate, on a busy machine.
pub(crate) const SOON: Duration = Duration::from_secs(20);
/// For a proof that something does not come. What it is compared with came within milliseconds.
pub(crate) const QUIET: Duration = Duration::from_millis(700);

/// Looks every 20 ms until there is something.
pub(crate) async fn until<T>(
    what: &str,
    limit: Duration,
    mut look: impl AsyncFnMut() -> Option<T>,
) -> T {
    let mut ticks = tokio::time::interval(Duration::from_millis(20));
    let found = tokio::time::timeout(limit, async {
        loop {
            ticks.tick().await;
            if let Some(found) = look().await {
                return found;
            }
        }
    });
    found.await.unwrap_or_else(|_| panic!("{what}: not within {limit:?}"))
}
