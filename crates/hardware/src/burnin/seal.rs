//! The signature of a report: who has the key can tell that nobody has changed it since.
//!
//! HMAC-SHA256 over the report as JSON without blanks, the keys of every object in order. So a
//! file may be indented anew and is still what was signed. The key is one that both sides hold:
//! whoever can verify can also sign.

use hmac::{Hmac, KeyInit, Mac};
use lindos_model::burnin::BurninReport;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::Sha256;
use std::fmt::{self, Write as _};

const ALGORITHM: &str = "hmac-sha256";
/// Shorter keys can be found by trying.
pub const KEY_LEAST: usize = 16;
const KEY_ID_OF: &[u8] = b"lindos burn-in report: id of the key";

#[derive(Clone)]
pub struct Key {
    bytes: Vec<u8>,
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({})", self.id())
    }
}

/// What stands beside a report.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Signature {
    pub algorithm: String,
    /// Tells keys apart, and does not give them away.
    pub key_id: String,
    pub mac: String,
}

/// A report as it stands in a file.
#[derive(Clone, Debug, Serialize)]
pub struct Sealed {
    pub report: BurninReport,
    pub signature: Option<Signature>,
}

/// Why a report is not to be believed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Doubt {
    /// No report at all, and why.
    Unreadable(String),
    Unsigned,
    UnknownAlgorithm(String),
    /// Signed with another key: the ids of that one and of ours.
    OtherKey {
        signed: String,
        ours: String,
    },
    Altered,
}

impl fmt::Display for Doubt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Doubt::Unreadable(why) => write!(f, "this is no burn-in report: {why}"),
            Doubt::Unsigned => f.write_str("the report is not signed"),
            Doubt::UnknownAlgorithm(name) => write!(f, "the report is signed by `{name}`"),
            Doubt::OtherKey { signed, ours } => {
                write!(f, "wrong key: the report names key {signed}, and this is key {ours}")
            }
            Doubt::Altered => f.write_str("the report was altered after it was signed"),
        }
    }
}

impl Key {
    /// The bytes of a key file, every one of them.
    pub fn new(bytes: Vec<u8>) -> Result<Key, String> {
        if bytes.len() < KEY_LEAST {
            return Err(format!(
                "it has {} bytes, and a key has {KEY_LEAST} at least",
                bytes.len()
            ));
        }
        Ok(Key { bytes })
    }

    pub fn id(&self) -> String {
        hex(&self.mac(KEY_ID_OF).finalize().into_bytes()[..8])
    }

    fn mac(&self, message: &[u8]) -> Hmac<Sha256> {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.bytes).expect("any length will do");
        mac.update(message);
        mac
    }
}

pub fn seal(report: BurninReport, key: Option<&Key>) -> Sealed {
    let signature = key.map(|key| {
        let value = serde_json::to_value(&report).expect("our types have string keys");
        Signature {
            algorithm: ALGORITHM.to_string(),
            key_id: key.id(),
            mac: hex(&key.mac(canonical(&value).as_bytes()).finalize().into_bytes()),
        }
    });
    Sealed { report, signature }
}

/// The report in this text, if it is the one that was signed with this key.
pub fn verify(text: &str, key: &Key) -> Result<BurninReport, Doubt> {
    let unreadable = |error: serde_json::Error| Doubt::Unreadable(error.to_string());
    let file: Value = serde_json::from_str(text).map_err(unreadable)?;
    let report = file.get("report").ok_or(Doubt::Unreadable("it has no `report`".to_string()))?;
    let signature = match file.get("signature") {
        None | Some(Value::Null) => return Err(Doubt::Unsigned),
        Some(signature) => Signature::deserialize(signature).map_err(unreadable)?,
    };
    if signature.algorithm != ALGORITHM {
        return Err(Doubt::UnknownAlgorithm(signature.algorithm));
    }
    if signature.key_id != key.id() {
        return Err(Doubt::OtherKey { signed: signature.key_id, ours: key.id() });
    }
    let mac = unhex(&signature.mac).ok_or(Doubt::Altered)?;
    // Takes equally long wherever the first difference is.
    let message = canonical(report);
    key.mac(message.as_bytes()).verify_slice(&mac).map_err(|_| Doubt::Altered)?;
    BurninReport::deserialize(report).map_err(unreadable)
}

/// Without blanks, the keys in order: one text for one value.
fn canonical(value: &Value) -> String {
    let mut text = String::new();
    write_canonical(value, &mut text);
    text
}

fn write_canonical(value: &Value, text: &mut String) {
    match value {
        Value::Object(map) => {
            let mut keys: Vec<&String> = map.keys().collect();
            keys.sort();
            text.push('{');
            for (place, key) in keys.into_iter().enumerate() {
                let comma = if place > 0 { "," } else { "" };
                let _ = write!(text, "{comma}{}:", Value::from(key.as_str()));
                write_canonical(&map[key], text);
            }
            text.push('}');
        }
        Value::Array(list) => {
            text.push('[');
            for (place, value) in list.iter().enumerate() {
                if place > 0 {
                    text.push(',');
                }
                write_canonical(value, text);
            }
            text.push(']');
        }
        plain => {
            let _ = write!(text, "{plain}");
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let pairs = text.as_bytes().chunks(2);
    pairs.map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use lindos_model::burnin::{Bound, REPORT_VERSION, TestResult, Verdict};
    use proptest::prelude::*;

    fn report(figure: f64) -> BurninReport {
        BurninReport {
            version: REPORT_VERSION,
            node: "n7".to_string(),
            started_at: 1_800_000_000_000,
            took_ms: 10_000,
            lindos: "0.1.0".to_string(),
            kernel: "6.8".to_string(),
            cpu: "a \"quoted\" name, µ".to_string(),
            platform: None,
            tests: vec![TestResult::judged(
                "memory.read",
                figure,
                "GB/s",
                Some(Bound::AtLeast(17.3)),
                String::new(),
            )],
            verdict: Verdict::Pass,
        }
    }

    fn key(letter: u8) -> Key {
        Key::new(vec![letter; 32]).unwrap()
    }

    fn signed(figure: f64) -> String {
        serde_json::to_string_pretty(&seal(report(figure), Some(&key(b'a')))).unwrap()
    }

    #[test]
    fn the_mac_is_that_of_the_standard() {
        // Test case 2 of RFC 4231, whose key is shorter than ours may be.
        let jefe = Key { bytes: b"Jefe".to_vec() };
        let mac = hex(&jefe.mac(b"what do ya want for nothing?").finalize().into_bytes());
        assert_eq!(mac, "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
    }

    #[test]
    fn a_report_is_what_was_signed_however_it_is_indented() {
        let text = signed(21.5);
        assert_eq!(verify(&text, &key(b'a')), Ok(report(21.5)));
        let value: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(verify(&value.to_string(), &key(b'a')), Ok(report(21.5)));
    }

    #[test]
    fn an_altered_report_and_a_wrong_key_are_told_apart() {
        let text = signed(21.5);
        for (old, new) in [
            ("\"n7\"", "\"n8\""),
            ("21.5", "21.6"),
            ("\"verdict\": \"pass\"\n", "\"verdict\": \"fail\"\n"),
            ("\"node\"", "\"more\": 1, \"node\""),
            ("\"mac\": \"", "\"mac\": \"0"),
        ] {
            assert!(text.contains(old), "{old}: {text}");
            let altered = text.replacen(old, new, 1);
            assert_eq!(verify(&altered, &key(b'a')), Err(Doubt::Altered), "{old}");
        }
        let doubt = verify(&text, &key(b'b')).unwrap_err();
        assert!(doubt.to_string().starts_with("wrong key: "), "{doubt}");
    }

    #[test]
    fn what_is_not_signed_or_no_report_is_said_so() {
        let unsigned = serde_json::to_string(&seal(report(1.0), None)).unwrap();
        assert_eq!(verify(&unsigned, &key(b'a')), Err(Doubt::Unsigned));
        assert!(matches!(verify("[]", &key(b'a')), Err(Doubt::Unreadable(_))));
        assert!(matches!(verify("{", &key(b'a')), Err(Doubt::Unreadable(_))));
        let other = signed(1.0).replace(ALGORITHM, "rot13");
        assert_eq!(verify(&other, &key(b'a')), Err(Doubt::UnknownAlgorithm("rot13".into())));
        assert!(Key::new(vec![1; KEY_LEAST - 1]).is_err());
    }

    proptest! {
        #[test]
        fn every_figure_is_read_back_as_it_was_signed(figure in -1e12..1e12_f64) {
            let text = signed(figure);
            prop_assert!(verify(&text, &key(b'a')).is_ok(), "{}", text);
        }
    }
}
