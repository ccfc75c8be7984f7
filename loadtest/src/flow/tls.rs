//! SIP messages over TLS, read and written by the thread that wants them.
//! Owns:  the connection.
//! Gives: whole messages, by their Content-Length.
//! Never: another certificate than the one that is believed.
//! Holds: a message that does not come in time, and a connection that ends, are errors.

use std::fmt;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;

use rustls::pki_types::ServerName;
use rustls::{ClientConnection, StreamOwned};

use super::{LIMIT, Wire};
use crate::certificate::{NAME, client};
use crate::text::header;

pub(super) struct Tls(BufReader<StreamOwned<ClientConnection, TcpStream>>);

impl Tls {
    /// Ends when the handshake has.
    pub(super) fn connect(gateway: SocketAddr, believed: &Path) -> Result<Self, String> {
        let fail = |what: &dyn fmt::Display| format!("TLS with {gateway}: {what}");
        let config = client(believed)?;
        let name = ServerName::try_from(NAME).map_err(|error| fail(&error))?;
        let mut client = ClientConnection::new(config, name).map_err(|error| fail(&error))?;
        let mut connected = || {
            let mut stream = TcpStream::connect_timeout(&gateway, LIMIT)?;
            stream.set_read_timeout(Some(LIMIT))?;
            stream.set_write_timeout(Some(LIMIT))?;
            stream.set_nodelay(true)?;
            while client.is_handshaking() {
                client.complete_io(&mut stream)?;
            }
            Ok::<_, std::io::Error>(stream)
        };
        let stream = connected().map_err(|error| fail(&error))?;
        Ok(Self(BufReader::new(StreamOwned::new(client, stream))))
    }

    pub(super) fn local(&self) -> Result<SocketAddr, String> {
        self.0.get_ref().sock.local_addr().map_err(|error| error.to_string())
    }
}

impl Wire for Tls {
    fn send(&mut self, message: &str) -> Result<(), String> {
        let stream = self.0.get_mut();
        let sent = stream.write_all(message.as_bytes()).and_then(|()| stream.flush());
        sent.map_err(|error| error.to_string())
    }

    fn next(&mut self) -> Result<String, String> {
        let mut text = String::new();
        while !text.ends_with("\r\n\r\n") {
            if self.0.read_line(&mut text).map_err(|error| error.to_string())? == 0 {
                return Err(format!("the end of the connection after {text:?}"));
            }
        }
        let length = header(&text, "Content-Length")?;
        let length = length.parse().map_err(|_| format!("the length {length} in {text}"))?;
        let mut body = vec![0; length];
        self.0.read_exact(&mut body).map_err(|error| error.to_string())?;
        text.push_str(&String::from_utf8_lossy(&body));
        Ok(text)
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Tls").field(&self.0.get_ref().sock).finish()
    }
}
