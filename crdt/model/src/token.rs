//! Join tokens as text: a short form to type, a long form to paste or scan.
//!
//! Typed: `LAB1-XXXXX-XXXXX-XXXXX-XXXXX`, 16 characters of seed (80 bit) and 4 of checksum (20 bit) in
//! Crockford base32; case, `O`/`0` and `I`/`L`/`1` are forgiven. Pasted: bech32m with the prefix `lab`, layout
//!
//! ```text
//! ver=1 | flags u8 | seed 16 | mesh id 32 | not_after u32 be (unix s) | naddr u8 ≤ 4 | addr* | invite
//! addr   = node id 32 | port u16 be | 4 or 16 (bytes of ip) | ip
//! invite = the rest: the invite's envelope (may be empty), so that a node that has not heard of it can verify it
//! ```
//!
//! Making and judging tokens is the business of `lab-crdt-log` and `lab-agent-core`.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use bech32::{Bech32m, Hrp};

use crate::id::{MeshId, NodeId};
use crate::limit::AUTHORITY_BYTES_MAX;

const CROCKFORD: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
const TICKET_ADDRESSES_MAX: usize = 4;

/// The secret inside a token. Prints nothing.
#[derive(Clone, PartialEq, Eq)]
pub enum Seed {
    /// 80 bit, from the typed form; stretched by Argon2id before use.
    Typed([u8; 10]),
    /// 128 bit, from the pasted form.
    Long([u8; 16]),
}

impl fmt::Debug for Seed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Typed(_) => "Seed::Typed(..)",
            Self::Long(_) => "Seed::Long(..)",
        })
    }
}

/// A token as read from text.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Token {
    /// The typed form: only the seed.
    Typed(Seed),
    /// The pasted form.
    Ticket(Ticket),
}

/// The pasted form of a token.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Ticket {
    /// The secret.
    pub seed: Seed,
    /// Which mesh must answer.
    pub mesh: MeshId,
    /// Unix seconds after which witnesses refuse it.
    pub not_after_s: u32,
    /// Who can be asked, and where; at most four.
    pub addresses: Vec<(NodeId, SocketAddr)>,
    /// The invite's envelope, or empty.
    pub invite: Vec<u8>,
}

/// Why a text is not a token. Nothing was changed; the token was not used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// Neither form.
    #[error("this is not a join token: expected LAB1-XXXXX-XXXXX-XXXXX-XXXXX or lab1…")]
    NotAToken,
    /// The typed form has the wrong number of characters.
    #[error("a typed token has 20 characters after LAB1-, this has {0}")]
    Length(usize),
    /// A character that no token has.
    #[error("`{0}` cannot be in a token")]
    Character(char),
    /// Mistyped or cut off: the checksum does not fit.
    #[error("the token is damaged: its checksum does not fit (mistyped or cut off?)")]
    Checksum,
    /// A later version of the format.
    #[error("the token has format {0}, this program reads format 1: update this machine")]
    Version(u8),
}

impl Token {
    /// Reads either form; white space around and dashes inside the typed form are forgiven.
    pub fn parse(text: &str) -> Result<Self, TokenError> {
        let text = text.trim();
        if text.len() > 4 * AUTHORITY_BYTES_MAX {
            return Err(TokenError::NotAToken);
        }
        if text
            .get(..5)
            .is_some_and(|p| p.eq_ignore_ascii_case("lab1-"))
        {
            return parse_typed(&text[5..]).map(|seed| Self::Typed(Seed::Typed(seed)));
        }
        if text
            .get(..4)
            .is_some_and(|p| p.eq_ignore_ascii_case("lab1"))
        {
            return parse_ticket(text).map(Self::Ticket);
        }
        Err(TokenError::NotAToken)
    }

    /// The secret.
    pub const fn seed(&self) -> &Seed {
        match self {
            Self::Typed(seed) => seed,
            Self::Ticket(ticket) => &ticket.seed,
        }
    }
}

fn checksum(seed: &[u8; 10]) -> [u8; 4] {
    let hash = blake3::derive_key("lab token checksum 1", seed);
    let bits = u32::from_be_bytes([hash[0], hash[1], hash[2], hash[3]]) >> 12;
    std::array::from_fn(|i| ((bits >> (15 - 5 * i)) & 31) as u8)
}

/// The typed form of a seed.
pub fn print_typed(seed: &[u8; 10]) -> String {
    let mut bits = 0u128;
    for &b in seed {
        bits = (bits << 8) | u128::from(b);
    }
    let body = (0..16).map(|i| ((bits >> (75 - 5 * i)) & 31) as u8);
    let all: Vec<u8> = body
        .chain(checksum(seed))
        .map(|v| CROCKFORD[usize::from(v)])
        .collect();
    let groups: Vec<_> = all
        .chunks(5)
        .map(|c| String::from_utf8_lossy(c).into_owned())
        .collect();
    format!("LAB1-{}", groups.join("-"))
}

fn parse_typed(text: &str) -> Result<[u8; 10], TokenError> {
    let mut values = Vec::new();
    for c in text.chars().filter(|c| *c != '-' && !c.is_whitespace()) {
        let folded = match c.to_ascii_uppercase() {
            'O' => '0',
            'I' | 'L' => '1',
            other => other,
        };
        let at = CROCKFORD
            .iter()
            .position(|a| char::from(*a) == folded)
            .ok_or(TokenError::Character(c))?;
        values.push(at as u8);
    }
    if values.len() != 20 {
        return Err(TokenError::Length(values.len()));
    }
    let bits = values[..16]
        .iter()
        .fold(0u128, |acc, v| (acc << 5) | u128::from(*v));
    let seed: [u8; 10] = std::array::from_fn(|i| (bits >> (72 - 8 * i)) as u8);
    if checksum(&seed) == values[16..] {
        Ok(seed)
    } else {
        Err(TokenError::Checksum)
    }
}

impl Ticket {
    /// The pasted form. Only a long seed has one; addresses beyond the fourth are left out.
    pub fn print(&self) -> Option<String> {
        let Seed::Long(seed) = &self.seed else {
            return None;
        };
        let addresses = &self.addresses[..self.addresses.len().min(TICKET_ADDRESSES_MAX)];
        let mut out = vec![1, 0];
        out.extend_from_slice(seed);
        out.extend_from_slice(&self.mesh.0);
        out.extend_from_slice(&self.not_after_s.to_be_bytes());
        out.push(addresses.len() as u8);
        for (node, addr) in addresses {
            out.extend_from_slice(&node.0);
            out.extend_from_slice(&addr.port().to_be_bytes());
            match addr.ip() {
                IpAddr::V4(ip) => {
                    out.push(4);
                    out.extend_from_slice(&ip.octets());
                }
                IpAddr::V6(ip) => {
                    out.push(16);
                    out.extend_from_slice(&ip.octets());
                }
            }
        }
        out.extend_from_slice(&self.invite);
        let mut text = String::new();
        let hrp = Hrp::parse("lab").ok()?;
        bech32::encode_lower_to_fmt::<Unbounded, _>(&mut text, hrp, &out).ok()?;
        Some(text)
    }
}

/// Bech32m without its 90-character limit: a ticket is pasted or scanned, and its invite is signed.
enum Unbounded {}

impl bech32::Checksum for Unbounded {
    type MidstateRepr = <Bech32m as bech32::Checksum>::MidstateRepr;
    const CODE_LENGTH: usize = 4 * AUTHORITY_BYTES_MAX;
    const CHECKSUM_LENGTH: usize = <Bech32m as bech32::Checksum>::CHECKSUM_LENGTH;
    const GENERATOR_SH: [Self::MidstateRepr; 5] = <Bech32m as bech32::Checksum>::GENERATOR_SH;
    const TARGET_RESIDUE: Self::MidstateRepr = <Bech32m as bech32::Checksum>::TARGET_RESIDUE;

    type CorrectionField = <Bech32m as bech32::Checksum>::CorrectionField;
    const ROOT_GENERATOR: Self::CorrectionField = <Bech32m as bech32::Checksum>::ROOT_GENERATOR;
    const ROOT_EXPONENTS: std::ops::RangeInclusive<usize> =
        <Bech32m as bech32::Checksum>::ROOT_EXPONENTS;
}

fn parse_ticket(text: &str) -> Result<Ticket, TokenError> {
    let checked = bech32::primitives::decode::CheckedHrpstring::new::<Unbounded>(text)
        .map_err(|_cause| TokenError::Checksum)?;
    if !checked.hrp().to_string().eq_ignore_ascii_case("lab") {
        return Err(TokenError::NotAToken);
    }
    let bytes: Vec<u8> = checked.byte_iter().collect();
    let mut rest = bytes.as_slice();
    let [version, _flags] = take(&mut rest)?;
    if version != 1 {
        return Err(TokenError::Version(version));
    }
    let seed = Seed::Long(take(&mut rest)?);
    let mesh = MeshId(take(&mut rest)?);
    let not_after_s = u32::from_be_bytes(take(&mut rest)?);
    let [count] = take(&mut rest)?;
    if usize::from(count) > TICKET_ADDRESSES_MAX {
        return Err(TokenError::Checksum);
    }
    let mut addresses = Vec::new();
    for _ in 0..count {
        let node = NodeId(take(&mut rest)?);
        let port = u16::from_be_bytes(take(&mut rest)?);
        let [length] = take(&mut rest)?;
        let ip = match length {
            4 => IpAddr::from(take::<4>(&mut rest)?),
            16 => IpAddr::from(take::<16>(&mut rest)?),
            _ => return Err(TokenError::Checksum),
        };
        addresses.push((node, SocketAddr::new(ip, port)));
    }
    if rest.len() > AUTHORITY_BYTES_MAX {
        return Err(TokenError::Checksum);
    }
    Ok(Ticket {
        seed,
        mesh,
        not_after_s,
        addresses,
        invite: rest.to_vec(),
    })
}

fn take<const N: usize>(rest: &mut &[u8]) -> Result<[u8; N], TokenError> {
    let (head, tail) = rest.split_first_chunk::<N>().ok_or(TokenError::Checksum)?;
    *rest = tail;
    Ok(*head)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ticket() -> Ticket {
        Ticket {
            seed: Seed::Long([9; 16]),
            mesh: MeshId([3; 32]),
            not_after_s: 1_800_000_000,
            addresses: vec![
                (NodeId([1; 32]), "10.0.0.1:4433".parse().unwrap()),
                (NodeId([2; 32]), "[fe80::1]:9".parse().unwrap()),
            ],
            invite: vec![7; 300],
        }
    }

    #[test]
    fn a_typed_token_reads_back_however_it_was_typed() {
        let seed = [1, 2, 3, 250, 251, 0, 0, 9, 77, 255];
        let text = print_typed(&seed);
        assert_eq!(text.len(), 28);
        for typed in [
            text.clone(),
            text.to_lowercase(),
            text.replace('0', "O")
                .replace('1', "l")
                .replacen("LABl", "LAB1", 1),
            format!("  {text}\n"),
        ] {
            assert_eq!(
                Token::parse(&typed),
                Ok(Token::Typed(Seed::Typed(seed))),
                "{typed}"
            );
        }
    }

    #[test]
    fn one_wrong_character_is_noticed() {
        let text = print_typed(&[5; 10]);
        for at in 5..text.len() {
            for c in ['2', 'Z', 'U', '!'] {
                let mut chars: Vec<char> = text.chars().collect();
                if chars[at] == c || chars[at] == '-' {
                    continue;
                }
                chars[at] = c;
                assert!(Token::parse(&chars.iter().collect::<String>()).is_err());
            }
        }
    }

    #[test]
    fn a_ticket_reads_back_and_any_cut_is_noticed() {
        let text = ticket().print().unwrap();
        assert_eq!(Token::parse(&text), Ok(Token::Ticket(ticket())));
        assert_eq!(
            Token::parse(&text.to_uppercase()),
            Ok(Token::Ticket(ticket()))
        );
        for end in 0..text.len() {
            assert!(Token::parse(&text[..end]).is_err(), "{end}");
        }
    }

    #[test]
    fn a_seed_is_never_printed() {
        let shown = format!("{:?}", ticket());
        assert!(!shown.contains("9, 9"));
    }
}
