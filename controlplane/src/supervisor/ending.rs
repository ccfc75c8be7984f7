//! The wish of a program that the gateway ends.
//! Owns:  the wish, and how long standing calls may go on by default.
//! Gives: `ask` to the API, `asked` to the process.
//! Never: ends anything itself; who serves drains and stops as for a signal.
//! Holds: the first wish counts; later ones learn what it was.

use std::time::Duration;

use tokio::sync::watch;

#[derive(Debug)]
pub struct Ending {
    wish: watch::Sender<Option<Duration>>,
    drain: Duration,
}

impl Ending {
    /// `drain`: how long standing calls may go on when nobody says otherwise.
    pub fn new(drain: Duration) -> Self {
        Self { wish: watch::Sender::new(None), drain }
    }

    /// How long standing calls may go on now, and whether that was news.
    pub fn ask(&self, drain: Option<Duration>) -> (Duration, bool) {
        let asked = drain.unwrap_or(self.drain);
        let mut counts = asked;
        let news = self.wish.send_if_modified(|wish| match wish {
            Some(first) => {
                counts = *first;
                false
            }
            None => {
                *wish = Some(asked);
                true
            }
        });
        (counts, news)
    }

    /// Waits for the wish.
    pub async fn asked(&self) -> Duration {
        let mut wish = self.wish.subscribe();
        // The sender lives in `self`, so the wait ends by a wish only.
        match wish.wait_for(Option::is_some).await {
            Ok(wish) => wish.unwrap_or(self.drain),
            Err(_) => self.drain,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_first_wish_counts() {
        const MINUTE: Duration = Duration::from_secs(60);
        let ending = Ending::new(Duration::from_secs(30));
        assert_eq!(ending.ask(Some(MINUTE)), (MINUTE, true));
        assert_eq!(ending.ask(None), (MINUTE, false));
        assert_eq!(ending.asked().await, MINUTE);
        let ending = Ending::new(MINUTE);
        assert_eq!(ending.ask(None), (MINUTE, true));
    }
}
