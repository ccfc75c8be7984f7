//! A certificate for a gateway under test, and clients that believe it and nobody else.
//! Owns:  the two PEM files in a folder that the caller gives.
//! Gives: their paths, and a rustls configuration for clients.
//! Never: a certificate that somebody else believes; nothing of it outlives the folder.
//! Holds: the certificate is its own authority.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::crypto::aws_lc_rs;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};

#[derive(Clone, Debug)]
pub struct Certificate {
    pub name: String,
    pub certificate: PathBuf,
    pub private_key: PathBuf,
}

impl Certificate {
    /// A new one for `name`, with a P-256 key.
    pub fn write(folder: &Path, name: &str) -> Result<Self, String> {
        let made = rcgen::generate_simple_self_signed([name.to_owned()])
            .map_err(|error| format!("a certificate for {name}: {error}"))?;
        let (certificate, private_key) = (folder.join("certificate.pem"), folder.join("key.pem"));
        for (path, text) in
            [(&certificate, made.cert.pem()), (&private_key, made.signing_key.serialize_pem())]
        {
            fs::write(path, text).map_err(|error| format!("{}: {error}", path.display()))?;
        }
        Ok(Self { name: name.to_owned(), certificate, private_key })
    }

    /// What the gateway has to be told in `[proxy]`.
    pub fn proxy_lines(&self) -> [String; 2] {
        [
            format!("ssl_certificate = {:?}", self.certificate.display().to_string()),
            format!("ssl_private_key = {:?}", self.private_key.display().to_string()),
        ]
    }

    pub fn client(&self) -> Result<Arc<ClientConfig>, String> {
        let fail =
            |error: &dyn std::fmt::Display| format!("{}: {error}", self.certificate.display());
        let authority = CertificateDer::from_pem_file(&self.certificate);
        let mut roots = RootCertStore::empty();
        roots.add(authority.map_err(|error| fail(&error))?).map_err(|error| fail(&error))?;
        let provider = Arc::new(aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| fail(&error))?;
        Ok(Arc::new(builder.with_root_certificates(roots).with_no_client_auth()))
    }
}
