//! The signature by which a receiver knows that a delivery is from somebody who has the secret, and how old it is.

use aws_lc_rs::hmac;
use secrecy::{ExposeSecret, SecretString};

/// `v1=` and HMAC-SHA256 in hexadecimal, over the timestamp as it stands in its header, a full stop, and the body.
pub(super) fn signature(secret: &SecretString, timestamp: i64, body: &[u8]) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.expose_secret().as_bytes());
    let mut context = hmac::Context::with_key(&key);
    context.update(timestamp.to_string().as_bytes());
    context.update(b".");
    context.update(body);
    format!("v1={}", hex::encode(context.sign()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_what_openssl_computes() {
        // printf '1767225600.{"id":1}' | openssl dgst -sha256 -hmac key
        let expect = "v1=dd83befce11e6ec908673f04d5c9a6ee3ae0c4bc9683c9aad140577bce497040";
        assert_eq!(signature(&"key".to_owned().into(), 1_767_225_600, br#"{"id":1}"#), expect);
    }
}
