//! What we prove ourselves with over TLS, and whom we believe: read from PEM files, ready to use.
//! Owns:  how the files are read and what rustls is told.
//! Gives: `Keys`, one for all shards, or one line that names the file and what is wrong with it.
//! Never: a session kept for later: resumption would need a lock between shards.
//! Holds: a private key that does not fit its certificate never comes live.

use std::collections::hash_map::Entry;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustc_hash::FxHashMap;
use rustls::client::Resumption;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{ClientConfig, Error, RootCertStore, ServerConfig};
use shared::ids::CertificateId;
use shared::settings::{ClientFiles, TlsFiles};

use crate::start_error::StartError;

/// A certificate chain of a few links has some 6 KiB, the authorities of a system 250.
const FILE_BYTES_MAX: u64 = 4 * 1_024 * 1_024;

#[derive(Debug)]
pub struct Keys {
    /// For flows that we accept.
    pub(crate) server: Arc<ServerConfig>,
    /// The same for browsers: asked for a certificate, they would ask their users.
    pub(crate) web: Arc<ServerConfig>,
    /// For those that we open.
    pub(crate) client: Arc<ClientConfig>,
    /// The same with a certificate of ours, by its files.
    clients: FxHashMap<CertificateId, Showing>,
}

#[derive(Debug)]
struct Showing {
    config: Arc<ClientConfig>,
    certificate: CertificateDer<'static>,
}

impl Keys {
    /// Reads the files. It blocks, so it is not for a shard.
    pub fn read(files: &TlsFiles) -> Result<Self, StartError> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let web = Arc::new(server(files, Arc::clone(&provider), None)?);
        let server = match asking(&files.client_authorities, &provider)? {
            None => Arc::clone(&web),
            asks => Arc::new(server(files, Arc::clone(&provider), asks)?),
        };
        let client = client(&files.authorities, Arc::clone(&provider))?;
        let mut clients = FxHashMap::default();
        for files in &files.clients {
            if let Entry::Vacant(place) = clients.entry(files.id) {
                place.insert(showing(&client, files, &provider)?);
            }
        }
        Ok(Self { server, web, client: Arc::new(client), clients })
    }

    /// For flows that show this certificate.
    pub(crate) fn showing(&self, id: CertificateId) -> Option<&Arc<ClientConfig>> {
        self.clients.get(&id).map(|showing| &showing.config)
    }

    /// The certificate itself.
    pub(crate) fn shown(&self, id: CertificateId) -> Option<&CertificateDer<'static>> {
        self.clients.get(&id).map(|showing| &showing.certificate)
    }
}

/// Asks clients for a certificate of these authorities. Who has none may come in all the same, as
/// nobody in particular; who shows one of somebody else's may not.
fn asking(
    authorities: &[PathBuf],
    provider: &Arc<CryptoProvider>,
) -> Result<Option<Arc<dyn ClientCertVerifier>>, StartError> {
    let Some(first) = authorities.first() else { return Ok(None) };
    let (roots, provider) = (Arc::new(roots(authorities)?), Arc::clone(provider));
    let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider);
    let verifier = verifier.allow_unauthenticated().build();
    verifier.map(Some).map_err(|error| refused(first, error))
}

/// What we prove ourselves with to one trunk.
fn showing(
    client: &ClientConfig,
    files: &ClientFiles,
    provider: &CryptoProvider,
) -> Result<Showing, StartError> {
    let chain = certificates(&files.certificate)?;
    let certificate = chain.first().cloned().expect("there is at least one");
    let key = private_key(&files.private_key)?;
    let own = CertifiedKey::from_der(chain, key, provider).map_err(|error| match error {
        Error::InconsistentKeys(_) => {
            let certificate = files.certificate.display();
            refused(&files.private_key, format!("it is not the key of {certificate}"))
        }
        error => refused(&files.private_key, error),
    })?;
    let mut config = client.clone();
    config.client_auth_cert_resolver = Arc::new(SingleCertAndKey::from(own));
    Ok(Showing { config: Arc::new(config), certificate })
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, StartError> {
    let key = PrivateKeyDer::from_pem_slice(&bytes(path)?);
    key.map_err(|error| refused(path, in_words(&error, "private key")))
}

fn server(
    files: &TlsFiles,
    provider: Arc<CryptoProvider>,
    asks: Option<Arc<dyn ClientCertVerifier>>,
) -> Result<ServerConfig, StartError> {
    let chain = certificates(&files.certificate)?;
    let key = private_key(&files.private_key)?;
    let versions =
        ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let builder = versions.map_err(|error| refused(&files.certificate, error))?;
    let builder = match asks {
        Some(verifier) => builder.with_client_cert_verifier(verifier),
        None => builder.with_no_client_auth(),
    };
    let config = builder.with_single_cert(chain, key);
    let mut config = config.map_err(|error| match error {
        Error::InconsistentKeys(_) => {
            let certificate = files.certificate.display();
            refused(&files.private_key, format!("it is not the key of {certificate}"))
        }
        Error::General(reason) => refused(&files.private_key, reason),
        error => refused(&files.certificate, error),
    })?;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(config)
}

fn client(
    authorities: &[PathBuf],
    provider: Arc<CryptoProvider>,
) -> Result<ClientConfig, StartError> {
    let mut roots = roots(authorities)?;
    if authorities.is_empty() {
        // A system without any still accepts flows; what it opens fails, and says why.
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    }
    let versions =
        ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let builder = versions.map_err(|error| StartError::Settings(format!("TLS: {error}")))?;
    let mut config = builder.with_root_certificates(roots).with_no_client_auth();
    config.resumption = Resumption::disabled();
    Ok(config)
}

fn roots(authorities: &[PathBuf]) -> Result<RootCertStore, StartError> {
    let mut roots = RootCertStore::empty();
    for path in authorities {
        for certificate in certificates(path)? {
            roots.add(certificate).map_err(|error| refused(path, error))?;
        }
    }
    Ok(roots)
}

/// At least one.
fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, StartError> {
    let bytes = bytes(path)?;
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    let read = match read {
        Ok(found) if found.is_empty() => Err(pem::Error::NoItemsFound),
        read => read,
    };
    read.map_err(|error| refused(path, in_words(&error, "certificate")))
}

fn in_words(error: &pem::Error, wanted: &str) -> String {
    match error {
        pem::Error::NoItemsFound => format!("there is no {wanted} in it"),
        pem::Error::MissingSectionEnd { .. } => "an END line is missing in it".to_owned(),
        pem::Error::IllegalSectionStart { .. } => "a BEGIN line in it is broken".to_owned(),
        error => error.to_string(),
    }
}

fn bytes(path: &Path) -> Result<Vec<u8>, StartError> {
    let length = fs::metadata(path).map_err(|error| refused(path, error))?.len();
    if length > FILE_BYTES_MAX {
        return Err(refused(path, format!("it has {length} bytes, more than {FILE_BYTES_MAX}")));
    }
    fs::read(path).map_err(|error| refused(path, error))
}

fn refused(path: &Path, reason: impl ToString) -> StartError {
    let reason = reason.to_string().replace('\n', " ");
    StartError::TlsFileRefused { path: path.to_owned(), reason }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A certificate of its own authority for `name`, as files in a folder of this test.
    pub(crate) fn files(test: &str, name: &str) -> TlsFiles {
        let folder = std::env::temp_dir().join(format!("keys-{test}-{}", std::process::id()));
        fs::create_dir_all(&folder).expect("a folder");
        let made = rcgen::generate_simple_self_signed([name.to_owned()]).expect("a certificate");
        let certificate = folder.join("certificate.pem");
        let private_key = folder.join("key.pem");
        fs::write(&certificate, made.cert.pem()).expect("written");
        fs::write(&private_key, made.signing_key.serialize_pem()).expect("written");
        TlsFiles {
            certificate: certificate.clone(),
            private_key,
            authorities: vec![certificate],
            client_authorities: Vec::new(),
            clients: Vec::new(),
        }
    }

    /// The same files as what a trunk is shown.
    pub(crate) fn as_client(files: &TlsFiles) -> ClientFiles {
        ClientFiles::new(files.certificate.clone(), files.private_key.clone())
    }

    pub(crate) fn remove(files: &TlsFiles) {
        fs::remove_dir_all(files.certificate.parent().expect("a folder")).expect("it was made");
    }

    fn reason(files: &TlsFiles) -> String {
        let line = Keys::read(files).expect_err("refused").to_string();
        assert!(!line.contains('\n'), "{line}");
        line
    }

    #[test]
    fn files_that_belong_together_are_taken() {
        let files = files("taken", "pbx.test");
        Keys::read(&files).expect("keys");
        let of_system = TlsFiles { authorities: Vec::new(), ..files.clone() };
        Keys::read(&of_system).expect("keys");
        remove(&files);
    }

    #[test]
    fn each_wrong_file_is_named_in_one_line() {
        let right = files("wrong", "pbx.test");
        let other = files("other", "pbx.test");
        let missing = PathBuf::from("/nowhere/key.pem");
        let line = reason(&TlsFiles { private_key: missing, ..right.clone() });
        assert!(line.starts_with("TLS cannot use /nowhere/key.pem: No such file"), "{line}");
        let mixed = TlsFiles { private_key: other.private_key.clone(), ..right.clone() };
        let line = reason(&mixed);
        assert!(line.contains("it is not the key of") && line.contains("keys-wrong"), "{line}");
        let swapped = TlsFiles { certificate: right.private_key.clone(), ..right.clone() };
        assert!(reason(&swapped).contains("there is no certificate in it"));
        let swapped = TlsFiles { private_key: right.certificate.clone(), ..right.clone() };
        assert!(reason(&swapped).contains("there is no private key in it"));
        let clients = vec![ClientFiles::new(right.certificate.clone(), other.private_key.clone())];
        let line = reason(&TlsFiles { clients, ..right.clone() });
        assert!(line.contains("it is not the key of") && line.contains("keys-wrong"), "{line}");
        let nobody = vec![right.private_key.clone()];
        let line = reason(&TlsFiles { client_authorities: nobody, ..right.clone() });
        assert!(line.contains("there is no certificate in it"), "{line}");
        fs::write(&other.certificate, "-----BEGIN CERTIFICATE-----\nno\n").expect("written");
        assert!(reason(&other).ends_with("an END line is missing in it"));
        let nobody = TlsFiles { authorities: vec![right.private_key.clone()], ..right.clone() };
        assert!(reason(&nobody).contains("there is no certificate in it"));
        remove(&right);
        remove(&other);
    }
}
