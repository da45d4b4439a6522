//! Whose cryptography: graviola, with RustCrypto's curves, where the processor can run it; RustCrypto alone elsewhere.

use rustls::crypto::CryptoProvider;

#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
use super::mixed;

/// Which cryptography TLS uses (`--tls-provider`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TlsProvider {
    /// Graviola where the processor has what it needs, otherwise RustCrypto, with a warning.
    #[default]
    Auto,
    /// Graviola (with RustCrypto's NIST curves and Ed25519), or nothing.
    Graviola,
    /// RustCrypto's primitives, with the glue of rustls-rustcrypto, which calls itself an alpha.
    Rustcrypto,
}

/// What was chosen.
pub(super) struct Chosen {
    pub(super) provider: CryptoProvider,
    /// What the user should know of the choice.
    pub(super) warning: Option<String>,
}

/// # Errors
/// Why what was asked for cannot be had.
pub(super) fn choose(wanted: TlsProvider) -> Result<Chosen, String> {
    let rustcrypto = |warning| Ok(Chosen { provider: rustls_rustcrypto::provider(), warning });
    match (wanted, graviola()) {
        (TlsProvider::Rustcrypto, _) => rustcrypto(None),
        (_, Ok(provider)) => Ok(Chosen { provider, warning: None }),
        (TlsProvider::Graviola, Err(reason)) => Err(format!(
            "graviola cannot run here: {reason}. With --tls-provider rustcrypto TLS works, by glue that \
             calls itself an alpha"
        )),
        (TlsProvider::Auto, Err(reason)) => rustcrypto(Some(format!(
            "TLS goes by rustls-rustcrypto, whose primitives are in wide use and whose glue calls itself an alpha: graviola \
             cannot run here ({reason}). --tls-provider rustcrypto says that this is known"
        ))),
    }
}

/// Graviola panics on a processor that lacks one of these.
#[cfg(target_arch = "x86_64")]
fn graviola() -> Result<CryptoProvider, String> {
    let needed = [
        ("aes", is_x86_feature_detected!("aes")),
        ("pclmulqdq", is_x86_feature_detected!("pclmulqdq")),
        ("bmi1", is_x86_feature_detected!("bmi1")),
        ("bmi2", is_x86_feature_detected!("bmi2")),
        ("adx", is_x86_feature_detected!("adx")),
        ("avx", is_x86_feature_detected!("avx")),
        ("avx2", is_x86_feature_detected!("avx2")),
    ];
    lacking(&needed).map_or_else(|| Ok(mixed::provider()), Err)
}

/// Graviola panics on a processor that lacks one of these.
#[cfg(target_arch = "aarch64")]
fn graviola() -> Result<CryptoProvider, String> {
    use std::arch::is_aarch64_feature_detected;
    let needed = [
        ("neon", is_aarch64_feature_detected!("neon")),
        ("aes", is_aarch64_feature_detected!("aes")),
        ("pmull", is_aarch64_feature_detected!("pmull")),
        ("sha2", is_aarch64_feature_detected!("sha2")),
    ];
    lacking(&needed).map_or_else(|| Ok(mixed::provider()), Err)
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn graviola() -> Result<CryptoProvider, String> {
    Err(format!("it is for x86_64 and aarch64, and this is {}", std::env::consts::ARCH))
}

#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
fn lacking(needed: &[(&str, bool)]) -> Option<String> {
    let lacking: Vec<_> = needed.iter().filter(|(_, there)| !there).map(|(feature, _)| *feature).collect();
    (!lacking.is_empty()).then(|| format!("the processor lacks {}", lacking.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rustcrypto_is_chosen_in_silence_only_by_wish() {
        let warning = |wanted| choose(wanted).map(|chosen| chosen.warning);
        assert_eq!(warning(TlsProvider::Rustcrypto), Ok(None));
        assert_eq!(warning(TlsProvider::Auto).map(|warning| warning.is_some()), Ok(graviola().is_err()));
        assert_eq!(choose(TlsProvider::Graviola).is_err(), graviola().is_err());
    }

    #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
    #[test]
    fn what_the_processor_lacks_is_named() {
        assert_eq!(lacking(&[("aes", true)]), None);
        let needed = [("aes", false), ("avx", true), ("adx", false)];
        assert_eq!(lacking(&needed).as_deref(), Some("the processor lacks aes, adx"));
    }
}
