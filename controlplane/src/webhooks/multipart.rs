//! `multipart/form-data` (RFC 7578) that is read twice: once for its signature, once for the wire.
//! Owns:  the boundary, the order of the parts, the bytes between them.
//! Gives: the length, every byte in pieces, a body that streams.
//! Never: holds a file in memory.
//! Holds: both passes give the same bytes, or the second one fails.

use std::fmt;
use std::io;
use std::sync::Arc;

use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

/// Pieces that wait for the network.
const PIECES: usize = 4;

/// A part's content that is made anew for every pass. It blocks.
pub trait Content: fmt::Debug + Send + Sync {
    /// In bytes.
    fn size(&self) -> u64;

    /// Gives every byte, in order; stops early when `take` says false.
    fn read(&self, take: &mut dyn FnMut(Vec<u8>) -> bool) -> io::Result<()>;
}

impl Content for Vec<u8> {
    fn size(&self) -> u64 {
        self.len() as u64
    }

    fn read(&self, take: &mut dyn FnMut(Vec<u8>) -> bool) -> io::Result<()> {
        take(self.clone());
        Ok(())
    }
}

#[derive(Clone, Debug)]
pub struct Part {
    pub name: &'static str,
    pub filename: Option<String>,
    pub content_type: &'static str,
    pub content: Arc<dyn Content>,
}

#[derive(Clone, Debug)]
pub struct Multipart {
    boundary: String,
    parts: Vec<Part>,
}

impl Multipart {
    pub fn new(parts: Vec<Part>) -> Self {
        // 128 random bits do not occur in a part by accident.
        Self { boundary: format!("ringgate-{:032x}", rand::random::<u128>()), parts }
    }

    pub fn content_type(&self) -> String {
        format!("multipart/form-data; boundary={}", self.boundary)
    }

    pub fn size(&self) -> u64 {
        let parts = self
            .parts
            .iter()
            .map(|part| (self.head(part).len() + "\r\n".len()) as u64 + part.content.size());
        parts.sum::<u64>() + self.end().len() as u64
    }

    /// Every byte of the body. It blocks.
    pub fn read(&self, take: &mut dyn FnMut(Vec<u8>) -> bool) -> io::Result<()> {
        for part in &self.parts {
            if !take(self.head(part)) {
                return Ok(());
            }
            let (mut left, mut open) = (part.content.size(), true);
            part.content.read(&mut |piece| {
                left = left.wrapping_sub(piece.len() as u64);
                open = take(piece);
                open
            })?;
            if !open {
                return Ok(());
            }
            if left != 0 {
                return Err(io::Error::other(format!(
                    "{} has changed while it was sent",
                    part.name
                )));
            }
            if !take(b"\r\n".to_vec()) {
                return Ok(());
            }
        }
        take(self.end());
        Ok(())
    }

    /// The second pass, at the pace of the network.
    pub fn body(self) -> reqwest::Body {
        let (sender, pieces) = mpsc::channel::<io::Result<Vec<u8>>>(PIECES);
        tokio::task::spawn_blocking(move || {
            let read = self.read(&mut |piece| sender.blocking_send(Ok(piece)).is_ok());
            if let Err(error) = read {
                // The exchange breaks, unless it is over already.
                let _over = sender.blocking_send(Err(error));
            }
        });
        reqwest::Body::wrap_stream(ReceiverStream::new(pieces))
    }

    fn head(&self, part: &Part) -> Vec<u8> {
        let Part { name, filename, content_type, .. } = part;
        let filename = filename.as_ref().map(|name| format!("; filename=\"{name}\""));
        format!(
            "--{}\r\nContent-Disposition: form-data; name=\"{name}\"{}\r\nContent-Type: \
             {content_type}\r\n\r\n",
            self.boundary,
            filename.unwrap_or_default()
        )
        .into_bytes()
    }

    fn end(&self) -> Vec<u8> {
        format!("--{}--\r\n", self.boundary).into_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_come_in_order_with_their_length() {
        let part = |name, filename: Option<&str>, content: &[u8]| Part {
            name,
            filename: filename.map(str::to_owned),
            content_type: "text/plain",
            content: Arc::new(content.to_vec()),
        };
        let form = Multipart::new(vec![part("a", None, b"one"), part("b", Some("f.txt"), b"two")]);
        let mut bytes = Vec::new();
        form.read(&mut |piece| {
            bytes.extend(piece);
            true
        })
        .expect("it is in memory");
        assert_eq!(form.size(), bytes.len() as u64);
        let text = String::from_utf8(bytes).expect("text").replace(&form.boundary, "B");
        assert_eq!(
            text,
            "--B\r\nContent-Disposition: form-data; name=\"a\"\r\nContent-Type: text/plain\r\n\r\n\
             one\r\n--B\r\nContent-Disposition: form-data; name=\"b\"; filename=\"f.txt\"\r\n\
             Content-Type: text/plain\r\n\r\ntwo\r\n--B--\r\n"
        );
    }

    #[derive(Debug)]
    struct Shrinking;

    impl Content for Shrinking {
        fn size(&self) -> u64 {
            10
        }

        fn read(&self, take: &mut dyn FnMut(Vec<u8>) -> bool) -> io::Result<()> {
            take(vec![0; 9]);
            Ok(())
        }
    }

    #[test]
    fn a_part_of_another_length_than_it_said_breaks_the_body() {
        let part = Part {
            name: "a",
            filename: None,
            content_type: "audio/wav",
            content: Arc::new(Shrinking),
        };
        let read = Multipart::new(vec![part]).read(&mut |_| true);
        assert!(read.is_err());
    }
}
