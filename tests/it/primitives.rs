//! The primitives that trust rests on, against the vectors of project Wycheproof: each as this project calls it.

use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use ed25519_dalek::{Signature, VerifyingKey};
use hkdf::Hkdf;
use hmac::{Hmac, Mac};
use sha2::Sha256;
use wycheproof::{TestResult, aead, eddsa, hkdf as hkdf_vectors, mac};

/// How statements, registers and root records are checked.
fn is_signature(key: &[u8], message: &[u8], signature: &[u8]) -> bool {
    let key = key
        .try_into()
        .ok()
        .and_then(|key| VerifyingKey::from_bytes(key).ok());
    let signature = Signature::from_slice(signature);
    match (key, signature) {
        (Some(key), Ok(signature)) => key.verify_strict(message, &signature).is_ok(),
        _ => false,
    }
}

#[test]
fn signatures_are_judged_as_wycheproof_judges_them() {
    let set = eddsa::TestSet::load(eddsa::TestName::Ed25519).expect("vectors");
    let mut count = 0;
    for group in set.test_groups {
        for test in group.tests {
            let is_good = is_signature(&group.key.pk, &test.msg, &test.sig);
            assert_eq!(is_good, test.result == TestResult::Valid, "{test:?}");
            count += 1;
        }
    }
    assert!(count >= 100, "{count}");
}

#[test]
fn sealed_keys_open_as_wycheproof_says() {
    let set = aead::TestSet::load(aead::TestName::XChaCha20Poly1305).expect("vectors");
    let mut count = 0;
    for group in set.test_groups {
        for test in group.tests {
            let sealed = [&test.ct[..], &test.tag[..]].concat();
            let cipher = XChaCha20Poly1305::new_from_slice(&test.key).expect("32 bytes");
            let Ok(nonce) = <[u8; 24]>::try_from(&test.nonce[..]) else {
                assert_ne!(test.result, TestResult::Valid);
                continue;
            };
            let payload = Payload {
                msg: &sealed,
                aad: &test.aad,
            };
            let opened = cipher.decrypt(&XNonce::from(nonce), payload).ok();
            let wanted = (test.result == TestResult::Valid).then(|| test.pt.to_vec());
            assert_eq!(opened, wanted, "{test:?}");
            count += 1;
        }
    }
    assert!(count >= 100, "{count}");
}

#[test]
fn keys_are_derived_as_wycheproof_derives_them() {
    let set = hkdf_vectors::TestSet::load(hkdf_vectors::TestName::HkdfSha256).expect("vectors");
    let mut count = 0;
    for test in set.test_groups.into_iter().flat_map(|group| group.tests) {
        let mut out = vec![0; test.size];
        let is_made = Hkdf::<Sha256>::new(Some(&test.salt), &test.ikm)
            .expand(&test.info, &mut out)
            .is_ok();
        let is_right = is_made && out == test.okm.to_vec();
        assert_eq!(is_right, test.result == TestResult::Valid, "{test:?}");
        count += 1;
    }
    assert!(count >= 50, "{count}");
}

#[test]
fn tags_of_tokens_are_made_as_wycheproof_makes_them() {
    let set = mac::TestSet::load(mac::TestName::HmacSha256).expect("vectors");
    let mut count = 0;
    for group in set.test_groups {
        let bytes = group.tag_size / 8;
        for test in group.tests {
            let mut mac = Hmac::<Sha256>::new_from_slice(&test.key).expect("any length");
            mac.update(&test.msg);
            let made = mac.finalize().into_bytes();
            let is_right = made[..bytes] == test.tag[..];
            assert_eq!(is_right, test.result == TestResult::Valid, "{test:?}");
            count += 1;
        }
    }
    assert!(count >= 100, "{count}");
}
