//! Ids as words that two people can compare over the phone.

use crate::id::{MeshId, NodeId};

/// The first `count` words for `bytes`: 11 bits each, from the English list of BIP39. At most 23 words for 32 bytes.
pub fn words(bytes: &[u8; 32], count: usize) -> Vec<&'static str> {
    let list = bip39::Language::English.word_list();
    (0..count.min(23))
        .map(|i| {
            let index = (0..11).fold(0usize, |acc, bit| {
                let at = i * 11 + bit;
                (acc << 1) | usize::from(bytes[at / 8] >> (7 - at % 8) & 1)
            });
            list[index]
        })
        .collect()
}

/// The words of a machine's key, which it shows itself and which whoever confirms it compares: 44 bits, for nobody
/// can look for a key with the same words before the machine has shown them.
pub fn of_node(node: &NodeId) -> String {
    words(&node.0, 4).join(" ")
}

/// The words of a mesh, which whoever joins compares: 66 bits, for they can be looked for at leisure.
pub fn of_mesh(mesh: &MeshId) -> String {
    words(&mesh.0, 6).join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_follow_the_bits() {
        assert_eq!(words(&[0; 32], 2), ["abandon", "abandon"]);
        assert_eq!(words(&[0xff; 32], 6), ["zoo"; 6]);
        assert_eq!(of_node(&NodeId([0xff; 32])), "zoo zoo zoo zoo");
        assert_eq!(of_mesh(&MeshId([0xff; 32])), "zoo zoo zoo zoo zoo zoo");
    }
}
