//! What the legs of a run hear of each other: a few packets, sent to be looked for.
//! Owns:  the two media sockets, and what came in by SSRC.
//! Gives: `Ear::try_out`: what becomes of a leg's voice right now.
//! Never: a steady stream: the commands are what is measured.
//! Holds: every leg has an SSRC of its own, so no voice is taken for another.

use std::collections::HashMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, UdpSocket};
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use super::board::End;
use super::lock;
use crate::load::batch::{Inbox, await_readable, socket};
use crate::wait;

/// More than a relay wants to see before it trusts a source.
const PACKETS: u16 = 6;
const PAYLOAD_BYTES: usize = 160;
/// No silence of G.711.
const VOICE: u8 = 0x2a;
/// From the last packet until it has been through the gateway.
const LISTEN: Duration = Duration::from_millis(25);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sound {
    Nothing,
    /// Packets come, but not what was said.
    Silence,
    Voice,
}

/// The stream of one leg.
#[derive(Debug)]
pub(super) struct Voice {
    ssrc: u32,
    sequence: u16,
}

impl Voice {
    /// `moves`: how often the call was transferred before.
    pub(super) fn new(call: u32, side: usize, moves: u32) -> Self {
        let ssrc = (call << 16) | ((side as u32 & 1) << 15) | (moves & 0x7fff);
        Self { ssrc, sequence: 0 }
    }

    fn packet(&mut self) -> Vec<u8> {
        self.sequence = self.sequence.wrapping_add(1);
        let timestamp = u32::from(self.sequence) * PAYLOAD_BYTES as u32;
        let mut packet = vec![0x80, 0];
        packet.extend_from_slice(&self.sequence.to_be_bytes());
        packet.extend_from_slice(&timestamp.to_be_bytes());
        packet.extend_from_slice(&self.ssrc.to_be_bytes());
        packet.resize(12 + PAYLOAD_BYTES, VOICE);
        packet
    }
}

/// The newest of each stream, and how many came.
type Heard = HashMap<u32, (u64, Sound)>;

pub(super) struct Ear {
    sockets: Arc<[UdpSocket; 2]>,
    heard: Arc<Mutex<Heard>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Ear {
    pub(super) fn bind(ip: Ipv4Addr) -> io::Result<Self> {
        let bind = || socket(SocketAddr::from((ip, 0)));
        let sockets = Arc::new([bind()?, bind()?]);
        let (heard, stop) = (Arc::<Mutex<Heard>>::default(), Arc::<AtomicBool>::default());
        let own = (Arc::clone(&sockets), Arc::clone(&heard), Arc::clone(&stop));
        let listen = move || {
            let (sockets, heard, stop) = own;
            let mut inbox = Inbox::default();
            while !stop.load(Ordering::Relaxed) {
                let mut count = 0;
                for socket in sockets.iter() {
                    count += take(&mut inbox, socket, &heard);
                }
                if count == 0 {
                    await_readable([&sockets[0], &sockets[1]], 20);
                }
            }
        };
        let thread = std::thread::Builder::new().name("ear".to_owned()).spawn(listen)?;
        Ok(Self { sockets, heard, stop, thread: Some(thread) })
    }

    /// Where callers and callees take media.
    pub(super) fn addresses(&self) -> [SocketAddr; 2] {
        let address = |socket: &UdpSocket| socket.local_addr().expect("it is bound");
        [address(&self.sockets[0]), address(&self.sockets[1])]
    }

    /// Says something at `relay`, from where a leg of `end` sends; what comes out at the other side.
    pub(super) fn try_out(&self, voice: &mut Voice, end: End, relay: SocketAddrV4) -> Sound {
        let before = lock(&self.heard).get(&voice.ssrc).map_or(0, |(count, _)| *count);
        for _ in 0..PACKETS {
            // What the kernel refuses is lost; the next try says it again.
            let _ = self.sockets[end as usize].send_to(&voice.packet(), relay);
        }
        wait::pause(LISTEN);
        match lock(&self.heard).get(&voice.ssrc) {
            Some((count, sound)) if *count > before => *sound,
            _ => Sound::Nothing,
        }
    }
}

impl Drop for Ear {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // A panic in there was printed by the thread itself.
            let _ = thread.join();
        }
    }
}

fn take(inbox: &mut Inbox, socket: &UdpSocket, heard: &Mutex<Heard>) -> usize {
    let count = inbox.fill(socket);
    for index in 0..count {
        let bytes = inbox.arrival(index).bytes;
        let Some((head, payload)) = bytes.split_at_checked(12) else { continue };
        let Some(&[a, b, c, d]) = head.get(8..12) else { continue };
        let said = payload.contains(&VOICE);
        let sound = if said { Sound::Voice } else { Sound::Silence };
        let mut heard = lock(heard);
        let (count, newest) =
            heard.entry(u32::from_be_bytes([a, b, c, d])).or_insert((0, Sound::Nothing));
        (*count, *newest) = (*count + 1, sound);
    }
    count
}
