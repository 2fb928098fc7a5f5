//! Keys that follow from the secret inside a join token.
//!
//! `ikm` = the seed of a pasted token, or Argon2id(seed, salt `lab/tok/s/1`, 64 MiB, t = 3, p = 1) of a typed one;
//! HKDF-SHA256(ikm): `sig` → an Ed25519 key, `bind` → an HMAC key.

use argon2::{Algorithm, Argon2, Params, Version};
use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use hmac::{Hmac, KeyInit, Mac};
use lab_crdt_model::token::Seed;
use lab_crdt_model::{AuthorId, MeshId, NodeId};
use sha2::Sha256;

const JOIN_CONTEXT: &[u8] = b"lab/join/1\0";

/// What the holder of a token can do. Prints nothing.
pub struct TokenKeys {
    signing: SigningKey,
    bind: [u8; 32],
}

impl std::fmt::Debug for TokenKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TokenKeys(..)")
    }
}

/// The public name of a token; tells nothing of its secret.
pub fn token_id(token_key: &[u8; 32]) -> [u8; 8] {
    let hash = blake3::hash(&[b"lab/tokid".as_slice(), token_key].concat());
    std::array::from_fn(|i| hash.as_bytes()[i])
}

impl TokenKeys {
    /// Derives the keys. A typed seed takes about 0.1 s and 64 MiB on purpose: its 80 bit must be slow to guess.
    pub fn derive(seed: &Seed) -> Self {
        let ikm = match seed {
            Seed::Long(seed) => seed.to_vec(),
            Seed::Typed(seed) => {
                let params =
                    Params::new(64 * 1024, 3, 1, Some(32)).expect("constant parameters are valid");
                let mut out = [0; 32];
                Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
                    .hash_password_into(seed, b"lab/tok/s/1", &mut out)
                    .expect("constant lengths are valid");
                out.to_vec()
            }
        };
        let hkdf = hkdf::Hkdf::<Sha256>::new(None, &ikm);
        let expand = |info: &[u8]| {
            let mut out = [0; 32];
            hkdf.expand(info, &mut out)
                .expect("32 bytes are within HKDF's limit");
            out
        };
        Self {
            signing: SigningKey::from_bytes(&expand(b"sig")),
            bind: expand(b"bind"),
        }
    }

    /// The public half, as the invite carries it.
    pub fn public(&self) -> [u8; 32] {
        self.signing.verifying_key().to_bytes()
    }

    /// Binds the token to a mesh, so that a joiner who only typed the seed can tell who answers.
    pub fn mesh_mac(&self, mesh: &MeshId) -> [u8; 32] {
        let mut mac =
            Hmac::<Sha256>::new_from_slice(&self.bind).expect("HMAC takes keys of any length");
        mac.update(&mesh.0);
        mac.update(&self.public());
        mac.finalize().into_bytes().into()
    }

    /// Signs a join: this node, sealing key and operator key hold the token.
    pub fn sign_join(
        &self,
        mesh: &MeshId,
        node: &NodeId,
        seal_key: &[u8; 32],
        operator: Option<&AuthorId>,
    ) -> [u8; 64] {
        self.signing
            .sign(&join_message(mesh, node, seal_key, operator))
            .to_bytes()
    }
}

/// Whether `signature` shows that the joiner held the token.
pub(crate) fn is_join_signed(
    token_key: &[u8; 32],
    mesh: &MeshId,
    node: &NodeId,
    seal_key: &[u8; 32],
    operator: Option<&AuthorId>,
    signature: &[u8; 64],
) -> bool {
    VerifyingKey::from_bytes(token_key).is_ok_and(|key| {
        key.verify_strict(
            &join_message(mesh, node, seal_key, operator),
            &Signature::from_bytes(signature),
        )
        .is_ok()
    })
}

fn join_message(
    mesh: &MeshId,
    node: &NodeId,
    seal_key: &[u8; 32],
    operator: Option<&AuthorId>,
) -> Vec<u8> {
    let operator = operator.map_or([0; 32], |key| key.0);
    [JOIN_CONTEXT, &mesh.0, &node.0, seal_key, &operator].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_of_seed_give_stable_distinct_keys() {
        let typed = TokenKeys::derive(&Seed::Typed([1; 10]));
        let long = TokenKeys::derive(&Seed::Long([1; 16]));
        assert_eq!(
            typed.public(),
            TokenKeys::derive(&Seed::Typed([1; 10])).public()
        );
        assert_ne!(typed.public(), long.public());
        assert_ne!(token_id(&typed.public()), token_id(&long.public()));
    }

    #[test]
    fn a_join_signature_fits_one_node_of_one_mesh() {
        let keys = TokenKeys::derive(&Seed::Long([5; 16]));
        let (mesh, node) = (MeshId([1; 32]), NodeId([2; 32]));
        let signature = keys.sign_join(&mesh, &node, &[3; 32], None);
        let ok = |m: &MeshId, n: &NodeId, s: &[u8; 32], o: Option<&AuthorId>| {
            is_join_signed(&keys.public(), m, n, s, o, &signature)
        };
        assert!(ok(&mesh, &node, &[3; 32], None));
        assert!(!ok(&MeshId([9; 32]), &node, &[3; 32], None));
        assert!(!ok(&mesh, &NodeId([9; 32]), &[3; 32], None));
        assert!(!ok(&mesh, &node, &[9; 32], None));
        assert!(!ok(&mesh, &node, &[3; 32], Some(&AuthorId([4; 32]))));
        assert_ne!(keys.mesh_mac(&mesh), keys.mesh_mac(&MeshId([9; 32])));
    }
}
