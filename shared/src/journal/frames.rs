//! Frames on their way into a segment.
//! Owns:  one buffer of whole frames; a checksum is put in when it is known where a frame will stand.
//! Gives: `push` by entry, `seal` by place, `written` when a part of it is safe.
//! Never: a frame without its payload, a payload above the limit.
//! Holds: frames keep their order.

use crate::cdr::{Cdr, LegTimeline};

use super::entry::Entry;
use super::{FRAME_BYTES, PAYLOAD_BYTES_MAX, Segment, frame_len, u32_at};

#[derive(Debug, Default)]
pub struct Frames {
    bytes: Vec<u8>,
}

impl Frames {
    pub fn push(&mut self, at_ms: u64, entry: &Entry) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&[0; FRAME_BYTES]);
        if let Some(cdr) = entry.cdr() {
            self.write_json(cdr);
            if self.bytes.len() - start - FRAME_BYTES > PAYLOAD_BYTES_MAX {
                self.bytes.truncate(start + FRAME_BYTES);
                self.write_json(&shortened(cdr));
            }
        }
        let payload = u32::try_from(self.bytes.len() - start - FRAME_BYTES)
            .expect("a shortened record is below the limit");
        let head = &mut self.bytes[start..start + FRAME_BYTES];
        head[..4].copy_from_slice(&payload.to_le_bytes());
        head[8..14].copy_from_slice(&at_ms.to_le_bytes()[..6]);
        head[14] = entry.kind();
        self.bytes.resize(start + frame_len(payload as usize), 0);
    }

    fn write_json(&mut self, cdr: &Cdr) {
        serde_json::to_writer(&mut self.bytes, cdr).expect("a CDR is plain text and numbers");
    }

    /// Puts the checksums into the frames that fit between `offset` and `end` of a segment, and gives
    /// their bytes. Empty when the first frame does not fit.
    pub fn seal(&mut self, segment: Segment, offset: u64, end: u64) -> &[u8] {
        let mut sealed = 0;
        while sealed < self.bytes.len() {
            let payload = u32_at(&self.bytes, sealed) as usize;
            let next = sealed + frame_len(payload);
            if offset + next as u64 > end {
                break;
            }
            let (head, rest) = self.bytes[sealed..]
                .split_first_chunk_mut::<FRAME_BYTES>()
                .expect("the buffer has whole frames");
            let checksum = segment.checksum(offset + sealed as u64, head, &rest[..payload]);
            head[4..8].copy_from_slice(&checksum.to_le_bytes());
            sealed = next;
        }
        &self.bytes[..sealed]
    }

    /// The first `count` bytes, which `seal` gave, are in the file.
    pub fn written(&mut self, count: usize) {
        self.bytes.drain(..count);
    }

    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }
}

/// Who called whom, when and how it ended always fits; lists of texts from peers may not.
fn shortened(cdr: &Cdr) -> Cdr {
    let mut short = cdr.clone();
    short.hangup_messages.clear();
    short.sip_leg_roles.truncate(2);
    short.media_quality.clear();
    short.last_error = None;
    short.leg_timeline = LegTimeline::default();
    let texts = [
        &mut short.call_id,
        &mut short.caller,
        &mut short.callee,
        &mut short.caller_uri,
        &mut short.callee_uri,
        &mut short.source_addr,
    ];
    for text in texts {
        *text = text.chars().take(1_024).collect();
    }
    for role in &mut short.sip_leg_roles {
        role.call_id = role.call_id.chars().take(1_024).collect();
    }
    short.user_agent = None;
    short
}
