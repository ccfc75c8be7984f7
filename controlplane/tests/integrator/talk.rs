//! Two soft phones in a conversation: 440 Hz from the caller, 1000 Hz from the callee.

use std::time::Duration;

use loadtest::phone::{Call, Phone};
use loadtest::tones;
use loadtest::wav::{Stereo, spoken};

use super::gate::Gate;
use super::{SOON, until};

pub(crate) const CALLER_HZ: f32 = 440.0;
pub(crate) const CALLEE_HZ: f32 = 1_000.0;

/// A registered phone.
pub(crate) async fn phone(gate: &Gate, user: &str) -> Phone {
    let mut phone = Phone::bind(gate.sip, user, &format!("secret-{user}")).expect("a socket");
    phone.register(300).await.expect("it registers");
    phone
}

/// Calls `target`, where `callee` picks up.
pub(crate) async fn joined(caller: &mut Phone, target: &str, callee: &mut Phone) -> (Call, Call) {
    let both =
        async { tokio::try_join!(caller.call(target, CALLER_HZ), callee.answer_next(CALLEE_HZ)) };
    let outcome = tokio::time::timeout(SOON, both).await.expect("a call within the limit");
    outcome.unwrap_or_else(|error| panic!("{target}: {error}"))
}

/// Connects the two and waits until each hears the other.
pub(crate) async fn connect(caller: &mut Phone, callee: &mut Phone) -> (Call, Call) {
    let target = callee.user().to_owned();
    let pair = joined(caller, &target, callee).await;
    hears(&pair.0, CALLEE_HZ).await;
    hears(&pair.1, CALLER_HZ).await;
    pair
}

pub(crate) async fn hears(call: &Call, hz: f32) {
    until(&format!("{hz} Hz"), SOON, async || (call.tone_share(hz) > 0.9).then_some(())).await;
}

/// The stream goes on, and the tone is not in it.
pub(crate) async fn hears_no_more(call: &Call, hz: f32) {
    let before = call.heard().packets_received;
    until(&format!("silence instead of {hz} Hz"), SOON, async || {
        let came = call.heard().packets_received > before + 10;
        (came && call.tone_share(hz) < 0.1).then_some(())
    })
    .await;
}

/// Waits until the callee has heard so much.
pub(crate) async fn goes_on(call: &Call, time: Duration) {
    let wanted = call.heard().packets_received + (time.as_millis() / 20) as u64;
    until("more voice", SOON + time, async || {
        (call.heard().packets_received >= wanted).then_some(())
    })
    .await;
}

/// The share of a tone in one side of a recording.
pub(crate) fn share(side: &[i16], hz: f32) -> f32 {
    tones::share(spoken(side), hz)
}

/// The caller on the left and the callee on the right of a stereo WAV.
#[track_caller]
pub(crate) fn assert_stereo(bytes: &[u8]) {
    let wav = Stereo::read(bytes).unwrap_or_else(|error| panic!("recording: {error}"));
    let (left, right) = (share(&wav.left, CALLER_HZ), share(&wav.right, CALLEE_HZ));
    assert!(left > 0.8, "the caller is on the left: {left}");
    assert!(right > 0.8, "the callee is on the right: {right}");
}
