//! SHA-256 digests, which identify keys, requests and mail addresses.

use ring::digest::{Context, SHA256, SHA256_OUTPUT_LEN};

/// The bytes of a SHA-256 digest.
pub(crate) type Sha256 = [u8; SHA256_OUTPUT_LEN];

/// Returns the digest of the concatenated parts.
pub(crate) fn sha256(parts: &[&[u8]]) -> Sha256 {
    let mut context = Context::new(&SHA256);
    for part in parts {
        context.update(part);
    }
    finish(context)
}

/// Returns the digest of the parts, each with its length. So lists with the same concatenation have different digests.
pub(crate) fn sha256_of_each(parts: &[&[u8]]) -> Sha256 {
    let mut context = Context::new(&SHA256);
    for part in parts {
        context.update(&u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
        context.update(part);
    }
    finish(context)
}

/// Returns bytes in lower-case hexadecimal.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = String::with_capacity(bytes.len().saturating_mul(2));
    for byte in bytes {
        for nibble in [byte >> 4, byte & 15] {
            text.push(char::from(DIGITS[usize::from(nibble)]));
        }
    }
    text
}

fn finish(context: Context) -> Sha256 {
    let mut digest = [0; SHA256_OUTPUT_LEN];
    digest.copy_from_slice(context.finish().as_ref());
    digest
}

#[cfg(test)]
mod tests {
    use super::*;

    /// FIPS 180-2, appendix B.1. Stored keys contain digests, so a digest must never change.
    #[test]
    fn sha256_matches_the_published_test_vector() {
        const ABC: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(hex(&sha256(&[b"abc"])), ABC);
        assert_eq!(sha256(&[b"a", b"bc"]), sha256(&[b"abc"]));
        assert_eq!(sha256_of_each(&[b"c"]), sha256(&[&1_u64.to_be_bytes(), b"c"]));
        assert_ne!(sha256_of_each(&[b"a", b"bc"]), sha256_of_each(&[b"ab", b"c"]));
    }
}
