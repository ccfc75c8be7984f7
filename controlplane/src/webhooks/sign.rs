//! Signatures by Standard Webhooks 1.0: HMAC-SHA256 over `id.timestamp.body`.
//! Owns:  the keys while they sign.
//! Gives: the value of `webhook-signature`, one part per key; ids for calls that have none.
//! Never: shows a key; reads a clock.
//! Holds: the same id, timestamp and bytes give the same signature, however the bytes were cut.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use shared::config::SigningKey;

#[derive(Clone, Debug, Default)]
pub struct Signer {
    keys: Vec<SigningKey>,
}

/// One signature in the making.
#[derive(Debug)]
pub struct Signing {
    macs: Vec<Hmac<Sha256>>,
}

impl Signer {
    /// Every key signs, so that a receiver may have either one while they rotate.
    pub fn new(keys: &[SigningKey]) -> Self {
        Self { keys: keys.to_vec() }
    }

    /// `at`: seconds since 1970. The bytes of the body follow.
    pub fn begin(&self, id: &str, at: i64) -> Signing {
        let begun = |key: &SigningKey| {
            let mut mac =
                Hmac::<Sha256>::new_from_slice(key.bytes()).expect("HMAC takes keys of any length");
            mac.update(format!("{id}.{at}.").as_bytes());
            mac
        };
        Signing { macs: self.keys.iter().map(begun).collect() }
    }
}

impl Signing {
    pub fn update(&mut self, bytes: &[u8]) {
        for mac in &mut self.macs {
            mac.update(bytes);
        }
    }

    /// `v1,BASE64`, with a space between two; `None` without a key.
    pub fn finish(self) -> Option<String> {
        let shown =
            |mac: Hmac<Sha256>| format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()));
        let signatures: Vec<String> = self.macs.into_iter().map(shown).collect();
        (!signatures.is_empty()).then(|| signatures.join(" "))
    }
}

/// A new `webhook-id` for a call that is not repeated.
pub fn fresh_id() -> String {
    format!("msg_{:032x}", rand::random::<u128>())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(text: &str) -> SigningKey {
        SigningKey::parse(text).expect("a key")
    }

    /// The example that the specification's libraries share.
    #[test]
    fn the_example_of_the_specification_comes_out() {
        let signer = Signer::new(&[key("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")]);
        let mut signing = signer.begin("msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330);
        signing.update(br#"{"test": 2432232314}"#);
        assert_eq!(
            signing.finish().as_deref(),
            Some("v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=")
        );
    }

    #[test]
    fn two_keys_give_two_signatures_and_none_gives_none() {
        let [one, two] =
            ["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"]
                .map(key);
        let sign = |keys: &[SigningKey], chunks: &[&str]| {
            let mut signing = Signer::new(keys).begin("msg_1", 7);
            chunks.iter().for_each(|chunk| signing.update(chunk.as_bytes()));
            signing.finish()
        };
        let alone = [&one, &two]
            .map(|key| sign(std::slice::from_ref(key), &["hello world"]).expect("it has a key"));
        let both = sign(&[one, two], &["hel", "", "lo world"]).expect("it has keys");
        assert_eq!(both, alone.join(" "));
        assert_ne!(alone[0], alone[1]);
        assert_eq!(sign(&[], &["x"]), None);
    }
}
