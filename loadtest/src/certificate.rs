//! A certificate of its own authority for the gateway, made by openssl, which we did not write.
//! Owns:  a folder with the certificate and its key, and a copy of each one that there was.
//! Gives: the lines of `[proxy]` that name them, another certificate in their place, clients that believe
//!        it, what openssl is shown.
//! Never: a certificate that anybody else believes.
//! Holds: certificate and key belong together whenever the gateway is told to read them.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use rustls::crypto::aws_lc_rs;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};

use crate::gateway::Folder;

/// Beside it, the certificate bears the loopback addresses, for phones that look for those.
pub const NAME: &str = "pbx.test";

/// openssl's own words would make it an authority, which some phones take for no server.
const WORDS: &str = "[req]\ndistinguished_name = name\nx509_extensions = bears\nprompt = no\n\
                     [name]\nCN = pbx.test\n[bears]\nbasicConstraints = critical,CA:FALSE\n\
                     subjectAltName = DNS:pbx.test,IP:127.0.0.1,IP:::1\n";

#[derive(Debug)]
pub struct Certificate {
    folder: Folder,
    made: u32,
}

impl Certificate {
    pub fn new() -> Result<Self, String> {
        let folder = Folder::new("certificate")?;
        let write = |error: std::io::Error| format!("{}: {error}", folder.path.display());
        fs::write(folder.path.join("openssl.cnf"), WORDS).map_err(write)?;
        let mut certificate = Self { folder, made: 0 };
        certificate.replace()?;
        Ok(certificate)
    }

    /// Another certificate with another key in the same files; the gateway sees them when it is told
    /// to reload.
    pub fn replace(&mut self) -> Result<(), String> {
        self.made += 1;
        let path = |name: &str| self.folder.path.join(name);
        let (new, key) = (self.believed(), path("new-key.pem"));
        let output = Command::new("openssl")
            .args(["req", "-new", "-x509", "-days", "7", "-nodes", "-newkey", "ec"])
            .args(["-pkeyopt", "ec_paramgen_curve:prime256v1", "-config"])
            .arg(path("openssl.cnf"))
            .arg("-keyout")
            .arg(&key)
            .arg("-out")
            .arg(&new)
            .output()
            .map_err(|error| format!("openssl: {error}"))?;
        if !output.status.success() {
            return Err(format!("openssl: {}", String::from_utf8_lossy(&output.stderr)));
        }
        let put =
            fs::copy(&new, path("certificate.pem")).and_then(|_| fs::rename(&key, path("key.pem")));
        put.map_err(|error| format!("{}: {error}", self.folder.path.display()))
    }

    /// The certificate that is in place now, under a name that stays its own.
    pub fn believed(&self) -> PathBuf {
        self.folder.path.join(format!("believed-{}.pem", self.made))
    }

    /// For the `[proxy]` section.
    pub fn lines(&self) -> Vec<String> {
        let line = |key: &str, file: &str| format!("{key} = {:?}", self.folder.path.join(file));
        vec![line("ssl_certificate", "certificate.pem"), line("ssl_private_key", "key.pem")]
    }
}

/// A client that believes the certificate in this file and nobody else.
pub fn client(believed: &Path) -> Result<Arc<ClientConfig>, String> {
    let fail = |error: &dyn std::fmt::Display| format!("{}: {error}", believed.display());
    let authority = CertificateDer::from_pem_file(believed).map_err(|error| fail(&error))?;
    let mut roots = RootCertStore::empty();
    roots.add(authority).map_err(|error| fail(&error))?;
    let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()));
    let builder = builder.with_safe_default_protocol_versions().map_err(|error| fail(&error))?;
    Ok(Arc::new(builder.with_root_certificates(roots).with_no_client_auth()))
}

/// Whether openssl, which believes this certificate alone, accepts whoever listens there.
pub fn is_shown(at: SocketAddr, believed: &Path) -> Result<bool, String> {
    let status = Command::new("openssl")
        .args(["s_client", "-connect", &at.to_string(), "-servername", NAME, "-brief"])
        .args(["-verify_return_error", "-verify_hostname", NAME, "-CAfile"])
        .arg(believed)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    status.map(|status| status.success()).map_err(|error| format!("openssl: {error}"))
}
