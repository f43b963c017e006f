//! Bytes as hexadecimal digits: keys and ids in files.

/// The digits of the bytes.
pub(crate) fn encode(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The bytes of exactly `N` times two digits.
pub(crate) fn decode<const N: usize>(text: &str) -> Option<[u8; N]> {
    if text.len() != 2 * N || !text.is_ascii() {
        return None;
    }
    let mut bytes = [0; N];
    for (index, byte) in bytes.iter_mut().enumerate() {
        let digits = &text[2 * index..2 * index + 2];
        if !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return None;
        }
        *byte = u8::from_str_radix(digits, 16).ok()?;
    }
    Some(bytes)
}

/// Random bytes from the system.
pub(crate) fn random<const N: usize>() -> Result<[u8; N], crate::failure::Failure> {
    use crate::failure::Context;
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).context(|| "the system gives no random numbers".to_owned())?;
    Ok(bytes)
}
