//! SIP messages over a WebSocket that the package `websockets` of Python speaks (`peers/web_client.py`).
//! Owns:  the other program and a thread that reads what it says.
//! Gives: whole messages.
//! Never: framing of our own.
//! Holds: the program ends with the phone, by its id.

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;

use super::{LIMIT, Wire};
use crate::certificate::NAME;

const CLIENT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/peers/web_client.py");
/// The distribution's Python, which has the distribution's packages.
const PYTHON: &str = "/usr/bin/python3";

#[derive(Debug)]
pub(super) struct Web {
    program: Child,
    stdin: ChildStdin,
    heard: Receiver<String>,
}

impl Web {
    /// Without a certificate to believe it speaks WS, with one WSS.
    pub(super) fn start(gateway: SocketAddr, believed: Option<&Path>) -> Result<Self, String> {
        let scheme = if believed.is_some() { "wss" } else { "ws" };
        let mut command = Command::new(PYTHON);
        command.arg(CLIENT).arg(format!("{scheme}://{gateway}/ws"));
        if let Some(path) = believed {
            command.arg(path).arg(NAME);
        }
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut program = command.spawn().map_err(|error| format!("{PYTHON}: {error}"))?;
        let (Some(stdin), Some(mut stdout)) = (program.stdin.take(), program.stdout.take()) else {
            return Err(format!("{PYTHON}: no pipes"));
        };
        let (sender, heard) = channel();
        // It ends with the program's output, or when nobody listens.
        thread::spawn(move || {
            let mut length = [0; 4];
            while stdout.read_exact(&mut length).is_ok() {
                let mut message = vec![0; u32::from_be_bytes(length) as usize];
                let whole = stdout.read_exact(&mut message).is_ok();
                let text = String::from_utf8_lossy(&message).into_owned();
                if !whole || sender.send(text).is_err() {
                    return;
                }
            }
        });
        Ok(Self { program, stdin, heard })
    }
}

impl Wire for Web {
    fn send(&mut self, message: &str) -> Result<(), String> {
        let length = u32::try_from(message.len()).map_err(|error| error.to_string())?;
        let bytes = [&length.to_be_bytes(), message.as_bytes()].concat();
        let sent = self.stdin.write_all(&bytes).and_then(|()| self.stdin.flush());
        sent.map_err(|error| format!("the WebSocket client: {error}"))
    }

    fn next(&mut self) -> Result<String, String> {
        self.heard.recv_timeout(LIMIT).map_err(|error| format!("the WebSocket client: {error}"))
    }
}

impl Drop for Web {
    fn drop(&mut self) {
        // It may have ended by itself; what is left is waited for, so that no zombie stays.
        let _ = self.program.kill();
        let _ = self.program.wait();
    }
}
