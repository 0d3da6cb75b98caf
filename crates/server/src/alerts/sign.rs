//! Signatures by the Standard Webhooks specification, for which receivers have libraries.

use super::config::Secret;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use ring::hmac;

/// The value of `webhook-signature`: of the id, the time and the body, with dots between, so that
/// none of them can be changed, or sent again later, unnoticed.
pub fn signature(secret: &Secret, id: &str, seconds: u64, body: &[u8]) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, &secret.0);
    let mut context = hmac::Context::with_key(&key);
    context.update(format!("{id}.{seconds}.").as_bytes());
    context.update(body);
    format!("v1,{}", BASE64_STANDARD.encode(context.sign()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// From the specification's own libraries.
    #[test]
    fn the_signature_is_that_of_the_specification() {
        let key = BASE64_STANDARD.decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        let body = br#"{"test": 2432232314}"#;
        let id = "msg_p5jXN8AQM9LWM0D4loKWxJek";
        let signed = signature(&Secret(key), id, 1_614_265_330, body);
        assert_eq!(signed, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
        let other = signature(&Secret(b"another secret.......".to_vec()), id, 1_614_265_330, body);
        assert_ne!(signed, other);
    }
}
