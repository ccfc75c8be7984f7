//! The disk: how full it is, what that means for new calls, and who is told.
//! Owns:  the look at the file systems under the data folder and the recordings.
//! Gives: levels to health and metrics, the rules of a full disk to the shards, an alarm to the log.
//! Never: touches a standing call; removes a file.
//! Holds: a level is left only two points below where it was entered, so that it does not flap.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use shared::command::{Command, Intake};
use shared::config::{DiskRules, WhenFull};
use tokio::task::JoinHandle;
use tokio::time::interval;

use crate::board::Board;
use crate::plane::{Plane, shards};

/// A full disk is an alarm within five seconds.
const LOOK: Duration = Duration::from_secs(2);
/// How far below a level the disk must fall to leave it.
const SLACK: u8 = 2;

/// Rising.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    #[default]
    Fine,
    Warn,
    High,
    Full,
}

impl Level {
    pub const ALL: [Self; 4] = [Self::Fine, Self::Warn, Self::High, Self::Full];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Fine => "fine",
            Self::Warn => "warn",
            Self::High => "high",
            Self::Full => "full",
        }
    }

    /// By the number that the board keeps.
    pub fn of_number(number: u64) -> Self {
        usize::try_from(number).ok().and_then(|n| Self::ALL.get(n).copied()).unwrap_or(Self::Full)
    }

    /// Where `percent` used leads from here.
    pub fn after(self, percent: u8, rules: DiskRules) -> Self {
        let bound = |level: Self| match level {
            Self::Fine => 0,
            Self::Warn => rules.warn,
            Self::High => rules.high,
            Self::Full => rules.full,
        };
        let reaches = |level: &Self| {
            let slack = if *level <= self { SLACK } else { 0 };
            percent >= bound(*level).saturating_sub(slack)
        };
        Self::ALL.into_iter().rev().find(reaches).unwrap_or(Self::Fine)
    }

    /// What shards may take in at this level. Messages are the first to go: only people look at them.
    pub const fn intake(self, rules: DiskRules) -> Intake {
        let reject = matches!(rules.when_full, WhenFull::Reject);
        match self {
            Self::Fine | Self::Warn => Intake::ALL,
            Self::High => Intake { messages: false, ..Intake::ALL },
            Self::Full => Intake { calls: !reject, recordings: false, messages: false },
        }
    }
}

/// Tells how full the file system under a folder is.
pub trait Gauge: fmt::Debug + Send + Sync {
    /// Percent of the blocks that an ordinary process may use. May block.
    fn used_percent(&self, folder: &Path) -> io::Result<u8>;
}

/// As the kernel tells it.
#[derive(Debug)]
pub struct FileSystems;

/// Looks at the folders' file systems until it is aborted; the fullest one counts.
#[derive(Debug)]
pub struct DiskWatch {
    pub folders: Vec<PathBuf>,
    /// Where the messages of calls are kept: it may lie on a disk of its own, which then stops
    /// nothing else.
    pub messages: Option<PathBuf>,
    pub gauge: Arc<dyn Gauge>,
    pub rules: DiskRules,
    pub plane: Arc<dyn Plane>,
    pub board: Arc<Board>,
}

impl DiskWatch {
    pub fn start(self) -> JoinHandle<()> {
        tokio::spawn(self.run())
    }

    async fn run(self) {
        let mut look = interval(LOOK);
        let (mut level, mut told) = (Level::Fine, Intake::ALL);
        let mut of_messages = Level::Fine;
        loop {
            look.tick().await;
            let Some((percent, folder)) = self.fullest(self.folders.clone()).await else {
                continue;
            };
            let now = level.after(percent, self.rules);
            if let Some(kept) = &self.messages
                && let Some((percent, _)) = self.fullest(vec![kept.clone()]).await
            {
                of_messages = of_messages.after(percent, self.rules);
            }
            let mut intake = now.intake(self.rules);
            intake.messages &= of_messages.intake(self.rules).messages;
            self.board.counts.disk_used_percent.store(u64::from(percent), Ordering::Relaxed);
            self.board.counts.disk_level.store(now as u64, Ordering::Relaxed);
            // The shards first: what the log says then holds.
            let before = told.messages;
            self.tell(intake, &mut told);
            if told.messages != before {
                say_messages(told.messages);
            }
            if now != level {
                self.say(&folder, level, now, percent);
                level = now;
            }
        }
    }

    /// None when it cannot be told.
    async fn fullest(&self, folders: Vec<PathBuf>) -> Option<(u8, PathBuf)> {
        let gauge = Arc::clone(&self.gauge);
        // A network file system may hang: that must not hold a thread of the runtime.
        match tokio::task::spawn_blocking(move || fullest(&folders, &*gauge)).await {
            Ok(used) => used,
            Err(error) => {
                tracing::error!(%error, "the look at the disk ended badly");
                None
            }
        }
    }

    /// Tells the shards once; one whose queue is full is told at the next look, with all others.
    fn tell(&self, intake: Intake, told: &mut Intake) {
        if intake == *told {
            return;
        }
        let mut all = true;
        for shard in shards(&*self.plane) {
            all &= self.plane.send(shard, Command::Intake(intake)).is_ok();
        }
        if all {
            *told = intake;
        }
    }

    fn say(&self, folder: &Path, before: Level, now: Level, percent: u8) {
        let folder = folder.display();
        let (was, level) = (before.as_str(), now.as_str());
        match (now, self.rules.when_full) {
            (Level::Full, WhenFull::Continue) => {
                tracing::error!(%folder, percent, was, "the disk is full: new calls are not recorded");
            }
            (Level::Full, WhenFull::Reject) => {
                tracing::error!(%folder, percent, was, "the disk is full: new calls are refused");
            }
            (Level::High | Level::Warn, _) if now > before => {
                tracing::warn!(%folder, percent, level, "the disk fills");
            }
            _ => tracing::info!(%folder, percent, level, was, "the disk has room again"),
        }
    }
}

impl Gauge for FileSystems {
    fn used_percent(&self, folder: &Path) -> io::Result<u8> {
        let found = rustix::fs::statvfs(folder)?;
        let used = found.f_blocks.saturating_sub(found.f_bfree);
        let all = used.saturating_add(found.f_bavail).max(1);
        Ok(u8::try_from(used.saturating_mul(100).div_ceil(all)).unwrap_or(100))
    }
}

fn say_messages(taken: bool) {
    if taken {
        tracing::info!("messages of calls are kept again");
    } else {
        tracing::warn!("the disk fills: messages of calls are not kept (no SIP flow)");
    }
}

/// None when one of them cannot be looked at.
fn fullest(folders: &[PathBuf], gauge: &dyn Gauge) -> Option<(u8, PathBuf)> {
    let mut found: Option<(u8, PathBuf)> = None;
    for folder in folders {
        match gauge.used_percent(folder) {
            Ok(percent) if found.as_ref().is_none_or(|(most, _)| percent > *most) => {
                found = Some((percent, folder.clone()));
            }
            Ok(_) => {}
            Err(error) => {
                let folder = folder.display();
                tracing::error!(%folder, %error, "the disk cannot be looked at");
                return None;
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_is_left_two_points_below_its_bound() {
        let rules = DiskRules::default();
        let steps = [(10, "fine"), (80, "warn"), (79, "warn"), (77, "fine"), (96, "full")]
            .into_iter()
            .chain([(94, "full"), (93, "full"), (92, "high"), (89, "high"), (87, "warn")]);
        let mut level = Level::Fine;
        for (percent, expected) in steps {
            level = level.after(percent, rules);
            assert_eq!(level.as_str(), expected, "at {percent} %");
        }
    }

    #[test]
    fn a_full_disk_stops_recordings_or_calls_as_configured() {
        let mut rules = DiskRules::default();
        let no_messages = Intake { messages: false, ..Intake::ALL };
        assert_eq!(Level::High.intake(rules), no_messages, "they go first");
        assert_eq!(Level::Full.intake(rules), Intake { recordings: false, ..no_messages });
        rules.when_full = WhenFull::Reject;
        assert!(!Level::Full.intake(rules).calls);
        assert_eq!(Level::Warn.intake(rules), Intake::ALL);
    }

    #[test]
    fn the_numbers_of_the_board_are_levels() {
        for level in Level::ALL {
            assert_eq!(Level::of_number(level as u64), level);
        }
        assert_eq!(Level::of_number(99), Level::Full);
    }
}
