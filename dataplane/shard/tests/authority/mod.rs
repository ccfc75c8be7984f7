//! Authorities of a test, and what they sign: certificates with any names and any time.
//! Owns:  the files that it writes, in a folder of the test.
//! Gives: `Authority::issue`; `named` for the usual certificate of a host.
//! Never: an authority that the system believes.
//! Holds: two authorities have names of their own.
#![allow(missing_debug_implementations, unreachable_pub)]

use std::fs;
use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, IsCa, KeyPair,
};
use shared::settings::ClientFiles;

pub struct Authority {
    own: CertifiedIssuer<'static, KeyPair>,
    folder: PathBuf,
    pub certificate: PathBuf,
}

impl Authority {
    pub fn new(folder: &Path, name: &str) -> Self {
        fs::create_dir_all(folder).expect("a folder");
        let mut params = plain(name, &[]);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let own = CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key"));
        let own = own.expect("a certificate");
        let certificate = folder.join(format!("{name}.pem"));
        fs::write(&certificate, own.pem()).expect("written");
        Self { own, folder: folder.to_owned(), certificate }
    }

    /// Signs what `params` say, and writes it with its key.
    pub fn issue(&self, file: &str, params: &CertificateParams) -> ClientFiles {
        let key = KeyPair::generate().expect("a key");
        let made = params.signed_by(&key, &self.own).expect("a certificate");
        let certificate = self.folder.join(format!("{file}.pem"));
        let private_key = self.folder.join(format!("{file}.key"));
        fs::write(&certificate, made.pem()).expect("written");
        fs::write(&private_key, key.serialize_pem()).expect("written");
        ClientFiles::new(certificate, private_key)
    }

    /// For a host of this name.
    pub fn named(&self, file: &str, name: &str) -> ClientFiles {
        self.issue(file, &plain("a host", &[name]))
    }
}

/// With this common name, and these DNS names.
pub fn plain(common: &str, names: &[&str]) -> CertificateParams {
    let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
    let mut params = CertificateParams::new(names).expect("names");
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, common);
    params
}
