//! Both ends of TLS in tests: a certificate of its own authority, and a client that believes it.
//! Owns:  the name that every certificate of a test bears.
//! Gives: `certify`, `secure`, `next_message` for whatever stream.
//! Never: the system's authorities.
//! Holds: nobody is believed but who bears the one certificate.
#![allow(dead_code, unreachable_pub)] // each test uses its part

use std::io::BufRead;
use std::net::TcpStream;
use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use shared::settings::TlsFiles;

use crate::plane::value;

pub const NAME: &str = "pbx.test";

/// Writes a certificate of its own authority for `NAME`.
pub fn certify(folder: &Path) -> TlsFiles {
    std::fs::create_dir_all(folder).expect("a folder");
    let made = rcgen::generate_simple_self_signed([NAME.to_owned()]).expect("a certificate");
    let (certificate, private_key) = (folder.join("certificate.pem"), folder.join("key.pem"));
    std::fs::write(&certificate, made.cert.pem()).expect("written");
    std::fs::write(&private_key, made.signing_key.serialize_pem()).expect("written");
    TlsFiles {
        authorities: vec![certificate.clone()],
        certificate,
        private_key,
        client_authorities: Vec::new(),
        clients: Vec::new(),
    }
}

/// The client's end, which believes one certificate.
pub fn secure(stream: TcpStream, believed: &Path) -> StreamOwned<ClientConnection, TcpStream> {
    let mut roots = RootCertStore::empty();
    let certificate = CertificateDer::from_pem_file(believed).expect("a certificate");
    roots.add(certificate).expect("it can be believed");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider);
    let builder = builder.with_safe_default_protocol_versions().expect("versions");
    let config = builder.with_root_certificates(roots).with_no_client_auth();
    let name = ServerName::try_from(NAME).expect("a name");
    let connection = ClientConnection::new(Arc::new(config), name).expect("a client");
    StreamOwned::new(connection, stream)
}

/// The next message of a stream. `wanted` is for whoever reads why there is none.
pub fn next_message(stream: &mut impl BufRead, wanted: &str) -> String {
    let mut text = String::new();
    while !text.ends_with("\r\n\r\n") {
        let read = stream.read_line(&mut text).unwrap_or_else(|e| panic!("no {wanted}: {e}"));
        assert!(read > 0, "no {wanted}: the end came after {text:?}");
    }
    let length = value(&text, "Content-Length").parse().expect("a length");
    let mut body = vec![0; length];
    stream.read_exact(&mut body).expect("the body");
    text.push_str(&String::from_utf8(body).expect("text"));
    text
}
