//! Identities: 32-byte values with a typed text form.
//!
//! Text is a prefix and 52 characters of lower-case base32 (RFC 4648 §6, no padding), for example
//! `node:k3f9…`. The prefix may be left out when reading.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

const ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";

/// Why a text is not an id. The text was not used; nothing changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a {kind} id: expected {kind}: and 52 characters of base32")]
pub struct ParseIdError {
    kind: &'static str,
    text: String,
}

/// Base32 of `bytes`, RFC 4648 §6 in lower case without padding.
pub fn base32(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len().div_ceil(5) * 8);
    let (mut acc, mut bits) = (0u32, 0u32);
    for &b in bytes {
        acc = (acc << 8) | u32::from(b);
        bits += 8;
        while bits >= 5 {
            bits -= 5;
            out.push(char::from(ALPHABET[((acc >> bits) & 31) as usize]));
        }
    }
    if bits > 0 {
        out.push(char::from(ALPHABET[((acc << (5 - bits)) & 31) as usize]));
    }
    out
}

/// Reads exactly `N` bytes of base32; `None` for any other character, length or non-zero spare bits.
pub fn unbase32<const N: usize>(text: &str) -> Option<[u8; N]> {
    if text.len() != (N * 8).div_ceil(5) {
        return None;
    }
    let (mut out, mut at, mut acc, mut bits) = ([0u8; N], 0, 0u32, 0u32);
    for c in text.bytes() {
        let v = match c {
            b'a'..=b'z' => c - b'a',
            b'A'..=b'Z' => c - b'A',
            b'2'..=b'7' => c - b'2' + 26,
            _ => return None,
        };
        acc = ((acc << 5) | u32::from(v)) & 0xfff;
        bits += 5;
        if bits >= 8 {
            bits -= 8;
            *out.get_mut(at)? = ((acc >> bits) & 0xff) as u8;
            at += 1;
        }
    }
    (at == N && acc & ((1 << bits) - 1) == 0).then_some(out)
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $prefix:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub struct $name(pub [u8; 32]);

        impl $name {
            /// The 32 bytes.
            pub const fn as_bytes(&self) -> &[u8; 32] {
                &self.0
            }

            /// The first eight characters of the text form, for people and logs.
            pub fn short(&self) -> String {
                base32(&self.0[..5])
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($prefix, ":{}"), base32(&self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($prefix, ":{}"), self.short())
            }
        }

        impl FromStr for $name {
            type Err = ParseIdError;

            fn from_str(text: &str) -> Result<Self, ParseIdError> {
                let body = text.strip_prefix(concat!($prefix, ":")).unwrap_or(text);
                unbase32(body)
                    .map(Self)
                    .ok_or_else(|| ParseIdError { kind: $prefix, text: text.chars().take(80).collect() })
            }
        }
    };
}

id!(
    /// A mesh: BLAKE3-256 of its root record version 0, so a mesh is bound to who founded it.
    MeshId, "mesh"
);
id!(
    /// A node: its Ed25519 public key; the same bytes as its iroh `EndpointId`.
    NodeId, "node"
);
id!(
    /// Whoever signs statements: root, admin, operator or node; an Ed25519 public key.
    AuthorId, "key"
);
id!(
    /// A statement: BLAKE3-256 of its bytes without the signature.
    StatementId, "change"
);

impl NodeId {
    /// The same key as an author of statements (a node signs its own join, witnesses and reports).
    pub const fn author(self) -> AuthorId {
        AuthorId(self.0)
    }
}

impl AuthorId {
    /// The same key as a node.
    pub const fn node(self) -> NodeId {
        NodeId(self.0)
    }
}

impl StatementId {
    /// "No statement": the `prev` of the first statement of a chain.
    pub const ZERO: Self = Self([0; 32]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_reads_back_what_it_prints() {
        for seed in 0..=255u8 {
            let id = NodeId(std::array::from_fn(|i| {
                seed.wrapping_mul(31).wrapping_add(i as u8)
            }));
            assert_eq!(id.to_string().parse::<NodeId>().unwrap(), id);
            assert_eq!(base32(&id.0).parse::<NodeId>().unwrap(), id);
        }
    }

    #[test]
    fn an_id_of_another_kind_or_length_is_refused() {
        let node = NodeId([7; 32]).to_string();
        assert!(node.parse::<MeshId>().is_err());
        assert!(node[..node.len() - 1].parse::<NodeId>().is_err());
        assert!("".parse::<NodeId>().is_err());
        assert!("ü".repeat(26).parse::<NodeId>().is_err());
    }
}
