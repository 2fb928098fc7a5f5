//! The only source of randomness in the product.

use zeroize::Zeroizing;

/// The operating system gave no randomness: it is broken or too early in its boot. Nothing was changed.
#[derive(Debug, Clone, thiserror::Error)]
#[error("get randomness from the operating system: {why}")]
pub struct EntropyError {
    why: String,
}

/// Fresh random bytes from the operating system, wiped when dropped.
///
/// # Errors
/// When the operating system has none.
pub fn bytes<const N: usize>() -> Result<Zeroizing<[u8; N]>, EntropyError> {
    let mut bytes = Zeroizing::new([0; N]);
    #[expect(clippy::disallowed_methods, reason = "this is the source")]
    getrandom::fill(bytes.as_mut_slice()).map_err(|e| EntropyError { why: e.to_string() })?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_draws_differ() {
        assert_ne!(*bytes::<32>().unwrap(), *bytes::<32>().unwrap());
    }
}
