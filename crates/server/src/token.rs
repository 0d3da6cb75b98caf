//! The secret that every request carries.

use std::io::{self, Read as _};

/// 32 hexadecimal digits from the operating system's random numbers.
#[derive(Clone)]
pub(crate) struct Token(String);

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Token(…)")
    }
}

impl Token {
    pub(crate) fn random() -> io::Result<Token> {
        Ok(Token(format!("{:032x}", random_u128()?)))
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether this is the value of an `Authorization` header that names the token. The time it
    /// takes tells nothing of how much was right.
    pub(crate) fn is_in(&self, header: &[u8]) -> bool {
        let Some(given) = header.strip_prefix(b"Bearer ") else { return false };
        let expected = self.0.as_bytes();
        if given.len() != expected.len() {
            return false;
        }
        given.iter().zip(expected).fold(0_u8, |differs, (a, b)| differs | (a ^ b)) == 0
    }
}

pub(crate) fn random_u128() -> io::Result<u128> {
    let mut bytes = [0; 16];
    std::fs::File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(u128::from_le_bytes(bytes))
}

/// 32 hexadecimal digits as a number.
pub(crate) fn parse_hex(text: &str) -> Option<u128> {
    let is_hex = text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_hex.then(|| u128::from_str_radix(text, 16).ok()).flatten()
}

/// `bytes` as hexadecimal digits.
#[cfg(test)]
pub(crate) fn to_hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::new(), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_whole_token_is_the_token() {
        let token = Token::random().unwrap();
        let text = token.as_str().to_string();
        assert_eq!(text.len(), 32);
        assert!(token.is_in(format!("Bearer {text}").as_bytes()));
        let almost = format!("Bearer {}x", &text[..31]);
        for wrong in ["", "Bearer", "Bearer ", &text, &format!("Bearer {text}0"), &almost] {
            assert!(!token.is_in(wrong.as_bytes()), "{wrong}");
        }
        assert_ne!(text, Token::random().unwrap().as_str());
        assert!(!format!("{token:?}").contains(&text), "a log must not tell it");
    }

    #[test]
    fn a_request_id_is_32_digits_and_nothing_else() {
        assert_eq!(parse_hex("000000000000000000000000000000ff"), Some(255));
        for wrong in
            ["", "ff", "+00000000000000000000000000000ff", &"g".repeat(32), &"0".repeat(33)]
        {
            assert_eq!(parse_hex(wrong), None, "{wrong}");
        }
        assert_eq!(to_hex(&[0, 255]), "00ff");
    }
}
