//! Which shard owns a message (architecture.md, "Bird's-eye view").
//! Owns:  the rule; it is the same function on every shard.
//! Gives: the owner of a message in O(1).
//! Never: a table shared between shards.
//! Holds: an INVITE, its CANCEL and its repeats have one owner, but for an INVITE with Replaces; so have all
//!        messages of a dialog.

use shared::ids::ShardId;
use sip::wire::{HeaderName, Message, Method, Replaces};

use crate::mint::{shard_of_branch, shard_of_tag};

/// The shard that owns `message`, out of `shards` (at least 1).
pub(crate) fn owner(message: &Message<'_>, shards: u8) -> Option<ShardId> {
    let known = |shard: ShardId| (shard.0 < shards).then_some(shard);
    if !message.is_request() {
        return message
            .via()
            .ok()
            .and_then(|via| via.branch)
            .and_then(shard_of_branch)
            .and_then(known);
    }
    let to_tag = message.to().ok().and_then(|to| to.tag());
    if let Some(shard) = to_tag.and_then(shard_of_tag).and_then(known) {
        return Some(shard);
    }
    if message.method() == Method::Register {
        let aor = message.to().ok().and_then(|to| to.parsed_uri().ok());
        if let Some(user) = aor.and_then(|uri| uri.user.map(|_| uri.user_unescaped().into_owned()))
        {
            return Some(ShardId::of_name(&user, shards));
        }
    }
    if let Some(shard) = shard_of_place(message).and_then(known) {
        return Some(shard);
    }
    let call_id = message.first(HeaderName::CallId).unwrap_or_default();
    Some(ShardId::of_name(call_id, shards))
}

/// An INVITE that is to take a place goes to where that is. Its CANCEL does not find it there, and is
/// answered 481: the INVITE has its answer as soon as the leg that stays has agreed.
pub(crate) fn shard_of_place(message: &Message<'_>) -> Option<ShardId> {
    let value =
        message.first(HeaderName::Replaces).filter(|_| message.method() == Method::Invite)?;
    shard_of_tag(&Replaces::parse(value).ok()?.to_tag)
}

/// The shard that keeps the bindings of an AOR's user part.
pub(crate) fn owner_of_aor(user: &str, shards: u8) -> ShardId {
    ShardId::of_name(user.as_bytes(), shards)
}
