//! Graviola's provider for rustls, without what RustCrypto has in the binary anyway.
//!
//! ```text
//!  graviola    cipher suites and their hashes · X25519, X25519MLKEM768 · RSA
//!  RustCrypto  P-256, P-384 (ECDH, ECDSA) · Ed25519
//! ```
//!
//! The whole of graviola would take 0.5 MB more (docs/adr/0008). RSA is graviola's because RustCrypto's signs in a time
//! that depends on the key (RUSTSEC-2023-0071), and has no lower bound for a key's size; graviola's is 2048 to 8192 bits.
//! No key gets from one to the other: what graviola does not take as RSA is read as a key of a curve, or not at all.

use std::{fmt, sync::Arc};

use ed25519_dalek::pkcs8::DecodePrivateKey;
use graviola::{Error, signing::rsa};
use p256::{
    NistP256,
    ecdsa::signature::hazmat::PrehashVerifier,
    elliptic_curve::{
        AffinePoint, CurveArithmetic, FieldBytesSize, SecretKey,
        pkcs8::AssociatedOid,
        point::PointCompression,
        sec1::{FromEncodedPoint, ModulusSize, ToEncodedPoint, ValidatePublicKey},
    },
};
use p384::NistP384;
use rustls::{
    NamedGroup, SignatureAlgorithm, SignatureScheme,
    crypto::{CryptoProvider, KeyProvider, WebPkiSupportedAlgorithms},
    pki_types::{
        AlgorithmIdentifier, InvalidSignature, PrivateKeyDer, SignatureVerificationAlgorithm, SubjectPublicKeyInfoDer,
        alg_id,
    },
    sign::{Signer, SigningKey, public_key_to_spki},
};
use rustls_rustcrypto::sign::{
    ecdsa::{EcdsaSigningKeyP256, EcdsaSigningKeyP384},
    eddsa::Ed25519SigningKey,
};
use sha2::{Digest, Sha256, Sha384, Sha512};

/// The provider. Graviola panics where the processor lacks something: that is looked at first.
pub(super) fn provider() -> CryptoProvider {
    let curves = rustls_rustcrypto::provider().kx_groups.into_iter();
    let curves = curves.filter(|group| matches!(group.name(), NamedGroup::secp256r1 | NamedGroup::secp384r1));
    CryptoProvider {
        cipher_suites: rustls_graviola::suites::ALL_CIPHER_SUITES.to_vec(),
        kx_groups: [rustls_graviola::kx::X25519MLKEM768, &rustls_graviola::kx::X25519]
            .into_iter()
            .chain(curves)
            .collect(),
        signature_verification_algorithms: ALGORITHMS,
        secure_random: &rustls_rustcrypto::Provider,
        key_provider: &Keys,
    }
}

// --- signatures of others ---------------------------------------------------------------------------

/// What is checked, the preferred first.
static ALGORITHMS: WebPkiSupportedAlgorithms = WebPkiSupportedAlgorithms {
    all: &[
        &P256_SHA256,
        &P256_SHA384,
        &P256_SHA512,
        &P384_SHA256,
        &P384_SHA384,
        &P384_SHA512,
        &ED25519,
        &RSA_PSS_SHA256,
        &RSA_PSS_SHA384,
        &RSA_PSS_SHA512,
        &RSA_PKCS1_SHA256,
        &RSA_PKCS1_SHA384,
        &RSA_PKCS1_SHA512,
    ],
    mapping: &[
        // TLS 1.3 takes the first of each only: the curve belongs to its name there.
        (SignatureScheme::ECDSA_NISTP256_SHA256, &[&P256_SHA256, &P384_SHA256]),
        (SignatureScheme::ECDSA_NISTP384_SHA384, &[&P384_SHA384, &P256_SHA384]),
        (SignatureScheme::ED25519, &[&ED25519]),
        (SignatureScheme::RSA_PSS_SHA512, &[&RSA_PSS_SHA512]),
        (SignatureScheme::RSA_PSS_SHA384, &[&RSA_PSS_SHA384]),
        (SignatureScheme::RSA_PSS_SHA256, &[&RSA_PSS_SHA256]),
        (SignatureScheme::RSA_PKCS1_SHA512, &[&RSA_PKCS1_SHA512]),
        (SignatureScheme::RSA_PKCS1_SHA384, &[&RSA_PKCS1_SHA384]),
        (SignatureScheme::RSA_PKCS1_SHA256, &[&RSA_PKCS1_SHA256]),
    ],
};

static P256_SHA256: Verification = Verification::new(alg_id::ECDSA_P256, alg_id::ECDSA_SHA256, p256::<Sha256>);
static P256_SHA384: Verification = Verification::new(alg_id::ECDSA_P256, alg_id::ECDSA_SHA384, p256::<Sha384>);
static P256_SHA512: Verification = Verification::new(alg_id::ECDSA_P256, alg_id::ECDSA_SHA512, p256::<Sha512>);
static P384_SHA256: Verification = Verification::new(alg_id::ECDSA_P384, alg_id::ECDSA_SHA256, p384::<Sha256>);
static P384_SHA384: Verification = Verification::new(alg_id::ECDSA_P384, alg_id::ECDSA_SHA384, p384::<Sha384>);
static P384_SHA512: Verification = Verification::new(alg_id::ECDSA_P384, alg_id::ECDSA_SHA512, p384::<Sha512>);
static ED25519: Verification = Verification::new(alg_id::ED25519, alg_id::ED25519, ed25519);
static RSA_PSS_SHA256: Verification = Verification::rsa(alg_id::RSA_PSS_SHA256, |signed| {
    signed.key()?.verify_pss_sha256(signed.signature, signed.message).ok()
});
static RSA_PSS_SHA384: Verification = Verification::rsa(alg_id::RSA_PSS_SHA384, |signed| {
    signed.key()?.verify_pss_sha384(signed.signature, signed.message).ok()
});
static RSA_PSS_SHA512: Verification = Verification::rsa(alg_id::RSA_PSS_SHA512, |signed| {
    signed.key()?.verify_pss_sha512(signed.signature, signed.message).ok()
});
static RSA_PKCS1_SHA256: Verification = Verification::rsa(alg_id::RSA_PKCS1_SHA256, |signed| {
    signed.key()?.verify_pkcs1_sha256(signed.signature, signed.message).ok()
});
static RSA_PKCS1_SHA384: Verification = Verification::rsa(alg_id::RSA_PKCS1_SHA384, |signed| {
    signed.key()?.verify_pkcs1_sha384(signed.signature, signed.message).ok()
});
static RSA_PKCS1_SHA512: Verification = Verification::rsa(alg_id::RSA_PKCS1_SHA512, |signed| {
    signed.key()?.verify_pkcs1_sha512(signed.signature, signed.message).ok()
});

/// One way of checking signatures.
#[derive(Debug)]
struct Verification {
    key: AlgorithmIdentifier,
    signature: AlgorithmIdentifier,
    /// Something if the signature is right.
    check: fn(&Signed<'_>) -> Option<()>,
}

/// What is to be checked. The key is what a certificate has as its bits: a point, or an RSA key in DER.
struct Signed<'a> {
    public_key: &'a [u8],
    message: &'a [u8],
    signature: &'a [u8],
}

impl Signed<'_> {
    fn key(&self) -> Option<rsa::VerifyingKey> {
        rsa::VerifyingKey::from_pkcs1_der(self.public_key).ok()
    }
}

impl Verification {
    const fn new(
        key: AlgorithmIdentifier,
        signature: AlgorithmIdentifier,
        check: fn(&Signed<'_>) -> Option<()>,
    ) -> Self {
        Self { key, signature, check }
    }

    const fn rsa(signature: AlgorithmIdentifier, check: fn(&Signed<'_>) -> Option<()>) -> Self {
        Self::new(alg_id::RSA_ENCRYPTION, signature, check)
    }
}

impl SignatureVerificationAlgorithm for Verification {
    fn verify_signature(&self, public_key: &[u8], message: &[u8], signature: &[u8]) -> Result<(), InvalidSignature> {
        (self.check)(&Signed { public_key, message, signature }).ok_or(InvalidSignature)
    }

    fn public_key_alg_id(&self) -> AlgorithmIdentifier {
        self.key
    }

    fn signature_alg_id(&self) -> AlgorithmIdentifier {
        self.signature
    }
}

fn p256<D: Digest>(signed: &Signed<'_>) -> Option<()> {
    let key = p256::ecdsa::VerifyingKey::from_sec1_bytes(signed.public_key).ok()?;
    let signature = p256::ecdsa::DerSignature::from_bytes(signed.signature).ok()?;
    key.verify_prehash(&D::digest(signed.message), &signature).ok()
}

fn p384<D: Digest>(signed: &Signed<'_>) -> Option<()> {
    let key = p384::ecdsa::VerifyingKey::from_sec1_bytes(signed.public_key).ok()?;
    let signature = p384::ecdsa::DerSignature::from_bytes(signed.signature).ok()?;
    key.verify_prehash(&D::digest(signed.message), &signature).ok()
}

fn ed25519(signed: &Signed<'_>) -> Option<()> {
    let key = ed25519_dalek::VerifyingKey::try_from(signed.public_key).ok()?;
    let signature = ed25519_dalek::Signature::from_slice(signed.signature).ok()?;
    key.verify_strict(signed.message, &signature).ok()
}

// --- keys of ours -----------------------------------------------------------------------------------

/// Reads our key, whatever its kind.
#[derive(Debug)]
struct Keys;

impl KeyProvider for Keys {
    fn load_private_key(&self, der: PrivateKeyDer<'static>) -> Result<Arc<dyn SigningKey>, rustls::Error> {
        let rsa = match &der {
            PrivateKeyDer::Pkcs1(key) => rsa::SigningKey::from_pkcs1_der(key.secret_pkcs1_der()).ok(),
            PrivateKeyDer::Pkcs8(key) => rsa::SigningKey::from_pkcs8_der(key.secret_pkcs8_der()).ok(),
            _ => None,
        };
        if let Some(key) = rsa {
            return Ok(Arc::new(RsaKey(Arc::new(key))));
        }
        let key = CurveKey::p256(&der).or_else(|| CurveKey::p384(&der)).or_else(|| CurveKey::ed25519(&der));
        let key = key
            .ok_or("the key is of none of the kinds that can be used: RSA of 2048 to 8192 bits, P-256, P-384, Ed25519");
        Ok(Arc::new(key.map_err(|text| rustls::Error::General(text.to_owned()))?))
    }
}

/// A key of RustCrypto's, with its public half, by which rustls sees whether it belongs to the certificate.
#[derive(Debug)]
struct CurveKey {
    key: Arc<dyn SigningKey>,
    public: SubjectPublicKeyInfoDer<'static>,
}

impl CurveKey {
    fn p256(der: &PrivateKeyDer<'_>) -> Option<Self> {
        let public = public_key_to_spki(&alg_id::ECDSA_P256, point::<NistP256>(der)?);
        Some(Self { key: Arc::new(EcdsaSigningKeyP256::try_from(der).ok()?), public })
    }

    fn p384(der: &PrivateKeyDer<'_>) -> Option<Self> {
        let public = public_key_to_spki(&alg_id::ECDSA_P384, point::<NistP384>(der)?);
        Some(Self { key: Arc::new(EcdsaSigningKeyP384::try_from(der).ok()?), public })
    }

    fn ed25519(der: &PrivateKeyDer<'_>) -> Option<Self> {
        let PrivateKeyDer::Pkcs8(pkcs8) = der else { return None };
        let secret = ed25519_dalek::SigningKey::from_pkcs8_der(pkcs8.secret_pkcs8_der()).ok()?;
        let public = public_key_to_spki(&alg_id::ED25519, secret.verifying_key());
        Some(Self { key: Arc::new(Ed25519SigningKey::try_from(der).ok()?), public })
    }
}

/// The public point of a key of curve `C`, not compressed, as in certificates.
fn point<C>(der: &PrivateKeyDer<'_>) -> Option<Box<[u8]>>
where
    C: CurveArithmetic + AssociatedOid + PointCompression + ValidatePublicKey,
    AffinePoint<C>: FromEncodedPoint<C> + ToEncodedPoint<C>,
    FieldBytesSize<C>: ModulusSize,
{
    let secret = match der {
        PrivateKeyDer::Pkcs8(key) => SecretKey::<C>::from_pkcs8_der(key.secret_pkcs8_der()).ok()?,
        PrivateKeyDer::Sec1(key) => SecretKey::<C>::from_sec1_der(key.secret_sec1_der()).ok()?,
        _ => return None,
    };
    Some(secret.public_key().to_sec1_bytes())
}

impl SigningKey for CurveKey {
    fn choose_scheme(&self, offered: &[SignatureScheme]) -> Option<Box<dyn Signer>> {
        self.key.choose_scheme(offered)
    }

    fn public_key(&self) -> Option<SubjectPublicKeyInfoDer<'_>> {
        Some(self.public.clone())
    }

    fn algorithm(&self) -> SignatureAlgorithm {
        self.key.algorithm()
    }
}

/// A key of graviola's.
struct RsaKey(Arc<rsa::SigningKey>);

/// How an RSA key signs a message, into a buffer.
type SignRsa = for<'a> fn(&rsa::SigningKey, &'a mut [u8], &[u8]) -> Result<&'a [u8], Error>;

/// The preferred first.
const RSA_SCHEMES: [(SignatureScheme, SignRsa); 6] = [
    (SignatureScheme::RSA_PSS_SHA512, rsa::SigningKey::sign_pss_sha512),
    (SignatureScheme::RSA_PSS_SHA384, rsa::SigningKey::sign_pss_sha384),
    (SignatureScheme::RSA_PSS_SHA256, rsa::SigningKey::sign_pss_sha256),
    (SignatureScheme::RSA_PKCS1_SHA512, rsa::SigningKey::sign_pkcs1_sha512),
    (SignatureScheme::RSA_PKCS1_SHA384, rsa::SigningKey::sign_pkcs1_sha384),
    (SignatureScheme::RSA_PKCS1_SHA256, rsa::SigningKey::sign_pkcs1_sha256),
];

impl SigningKey for RsaKey {
    fn choose_scheme(&self, offered: &[SignatureScheme]) -> Option<Box<dyn Signer>> {
        let (scheme, sign) = RSA_SCHEMES.into_iter().find(|(scheme, _)| offered.contains(scheme))?;
        Some(Box::new(RsaSigner { key: Arc::clone(&self.0), scheme, sign }))
    }

    fn public_key(&self) -> Option<SubjectPublicKeyInfoDer<'_>> {
        let mut buffer = vec![0; self.0.modulus_len_bytes() + 64];
        let public = self.0.public_key().to_spki_der(&mut buffer).ok()?;
        Some(public.to_vec().into())
    }

    fn algorithm(&self) -> SignatureAlgorithm {
        SignatureAlgorithm::RSA
    }
}

impl fmt::Debug for RsaKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RsaKey").finish_non_exhaustive()
    }
}

/// An RSA key that will sign in one way.
struct RsaSigner {
    key: Arc<rsa::SigningKey>,
    scheme: SignatureScheme,
    sign: SignRsa,
}

impl Signer for RsaSigner {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rustls::Error> {
        let mut buffer = vec![0; self.key.modulus_len_bytes()];
        let signature = (self.sign)(&self.key, &mut buffer, message);
        signature.map(<[u8]>::to_vec).map_err(|error| rustls::Error::General(format!("signing failed: {error:?}")))
    }

    fn scheme(&self) -> SignatureScheme {
        self.scheme
    }
}

impl fmt::Debug for RsaSigner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RsaSigner").field("scheme", &self.scheme).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use graviola::{hashing, signing::ecdsa};
    use pkcs8::spki::SubjectPublicKeyInfoRef;
    use rustls::{
        pki_types::{CertificateDer, pem::PemObject},
        server::ParsedCertificate,
    };

    use super::*;

    const MESSAGE: &[u8] = b"what a broker of this name has said";

    fn file(name: &str) -> std::path::PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/tls").join(name)
    }

    fn key(name: &str) -> PrivateKeyDer<'static> {
        PrivateKeyDer::from_pem_file(file(&format!("{name}.key"))).expect("a key")
    }

    /// The bits of the public key in a certificate.
    fn public(name: &str) -> Vec<u8> {
        let certificate = CertificateDer::from_pem_file(file(&format!("{name}.pem"))).expect("a certificate");
        let info = ParsedCertificate::try_from(&certificate).expect("a certificate").subject_public_key_info();
        let info = SubjectPublicKeyInfoRef::try_from(info.as_ref()).expect("a public key");
        info.subject_public_key.raw_bytes().to_vec()
    }

    /// Takes the signature as it is, and nothing else: no bit may be another, nor the message or the key.
    #[track_caller]
    fn takes(algorithm: &dyn SignatureVerificationAlgorithm, public: &[u8], other: &[u8], signature: &[u8]) {
        algorithm.verify_signature(public, MESSAGE, signature).expect("right");
        let refused = |public: &[u8], message: &[u8], signature: &[u8]| {
            assert!(
                algorithm.verify_signature(public, message, signature).is_err(),
                "{algorithm:?} took what is wrong"
            );
        };
        for at in (0..signature.len()).step_by(signature.len() / 16) {
            for bit in [0, 7] {
                let mut wrong = signature.to_vec();
                wrong[at] ^= 1 << bit;
                refused(public, MESSAGE, &wrong);
            }
        }
        refused(public, &MESSAGE[1..], signature);
        refused(other, MESSAGE, signature);
        refused(public, MESSAGE, &signature[1..]);
        refused(public, MESSAGE, &[signature, &[0]].concat());
        refused(public, MESSAGE, &vec![0; signature.len()]);
        refused(public, MESSAGE, &[]);
        refused(&public[1..], MESSAGE, signature);
        refused(&[], MESSAGE, signature);
    }

    #[test]
    fn what_one_provider_signs_the_other_takes() {
        let schemes = RSA_SCHEMES.map(|(scheme, _)| scheme);
        let kinds: [(&str, &str, AlgorithmIdentifier, &[SignatureScheme]); 4] = [
            ("client", "server", alg_id::RSA_ENCRYPTION, &schemes),
            ("client-ec", "server-ec", alg_id::ECDSA_P256, &[SignatureScheme::ECDSA_NISTP256_SHA256]),
            ("client-p384", "server-p384", alg_id::ECDSA_P384, &[SignatureScheme::ECDSA_NISTP384_SHA384]),
            ("client-ed25519", "server-ed25519", alg_id::ED25519, &[SignatureScheme::ED25519]),
        ];
        let providers = [provider(), rustls_rustcrypto::provider()];
        for (name, other, id, schemes) in kinds {
            for (signing, checking) in [(0, 1), (1, 0), (0, 0)] {
                let signing = providers[signing].key_provider.load_private_key(key(name)).expect(name);
                let checking = providers[checking].signature_verification_algorithms;
                for scheme in schemes {
                    let signer = signing.choose_scheme(&[*scheme]).expect("a signer");
                    assert_eq!(signer.scheme(), *scheme);
                    let signature = signer.sign(MESSAGE).expect("a signature");
                    let (_, mapped) = checking.mapping.iter().find(|(mapped, _)| mapped == scheme).expect("a mapping");
                    assert_eq!(mapped[0].public_key_alg_id(), id, "TLS 1.3 takes the first");
                    takes(mapped[0], &public(name), &public(other), &signature);
                }
            }
        }
    }

    #[test]
    fn an_authority_may_sign_with_any_hash() {
        let check = |name: &str, id, hash, signature: &[u8]| {
            let mut all = ALGORITHMS.all.iter();
            let found = all.find(|known| known.public_key_alg_id() == id && known.signature_alg_id() == hash);
            takes(
                *found.expect("an algorithm"),
                &public(&format!("client-{name}")),
                &public(&format!("server-{name}")),
                signature,
            );
        };
        let sec1 = key("client-ec");
        let p256 = ecdsa::SigningKey::<ecdsa::P256>::from_sec1_der(sec1.secret_der()).expect("a key");
        let pkcs8 = key("client-p384");
        let p384 = ecdsa::SigningKey::<ecdsa::P384>::from_pkcs8_der(pkcs8.secret_der()).expect("a key");
        let mut buffer = [0; 128];
        let message = &[MESSAGE];
        let (id, name) = (alg_id::ECDSA_P256, "ec");
        check(name, id, alg_id::ECDSA_SHA256, p256.sign_asn1::<hashing::Sha256>(message, &mut buffer).unwrap());
        check(name, id, alg_id::ECDSA_SHA384, p256.sign_asn1::<hashing::Sha384>(message, &mut buffer).unwrap());
        check(name, id, alg_id::ECDSA_SHA512, p256.sign_asn1::<hashing::Sha512>(message, &mut buffer).unwrap());
        let (id, name) = (alg_id::ECDSA_P384, "p384");
        check(name, id, alg_id::ECDSA_SHA256, p384.sign_asn1::<hashing::Sha256>(message, &mut buffer).unwrap());
        check(name, id, alg_id::ECDSA_SHA384, p384.sign_asn1::<hashing::Sha384>(message, &mut buffer).unwrap());
        check(name, id, alg_id::ECDSA_SHA512, p384.sign_asn1::<hashing::Sha512>(message, &mut buffer).unwrap());
    }

    #[test]
    fn an_rsa_key_that_is_too_short_is_refused() {
        assert!(Keys.load_private_key(key("weak")).is_err());
        let theirs = rustls_rustcrypto::provider();
        let weak = theirs.key_provider.load_private_key(key("weak")).expect("RustCrypto takes it");
        let signer = weak.choose_scheme(&[SignatureScheme::RSA_PKCS1_SHA256]).expect("a signer");
        let signature = signer.sign(MESSAGE).expect("a signature");
        assert!(RSA_PKCS1_SHA256.verify_signature(&public("weak"), MESSAGE, &signature).is_err());
    }

    #[test]
    fn the_public_half_of_a_key_is_that_of_its_certificate() {
        for name in ["client", "client-ec", "client-p384", "client-ed25519"] {
            let key = Keys.load_private_key(key(name)).expect(name);
            let info = key.public_key().expect("its public half");
            let info = SubjectPublicKeyInfoRef::try_from(info.as_ref()).expect("a public key");
            assert_eq!(info.subject_public_key.raw_bytes(), public(name), "{name}");
        }
    }

    #[test]
    fn keys_are_agreed_with_graviola_and_with_rustcrypto() {
        let ours = provider().kx_groups;
        let names: Vec<_> = ours.iter().map(|group| group.name()).collect();
        use NamedGroup::{X25519, X25519MLKEM768, secp256r1, secp384r1};
        assert_eq!(names, [X25519MLKEM768, X25519, secp256r1, secp384r1]);
        let theirs = [rustls_graviola::default_provider().kx_groups, rustls_rustcrypto::provider().kx_groups].concat();
        for group in ours {
            let theirs: Vec<_> = theirs.iter().filter(|theirs| theirs.name() == group.name()).collect();
            assert!(!theirs.is_empty());
            for theirs in theirs {
                let here = group.start().expect("a share");
                let there = theirs.start_and_complete(here.pub_key()).expect("their secret");
                let secret = here.complete(&there.pub_key).expect("our secret");
                assert_eq!(secret.secret_bytes(), there.secret.secret_bytes(), "{:?}", group.name());
            }
            for wrong in [&[][..], &[0; 32], &[[4].as_slice(), &[1; 64]].concat(), &[[4].as_slice(), &[1; 96]].concat()]
            {
                assert!(group.start().expect("a share").complete(wrong).is_err(), "{:?} took {wrong:?}", group.name());
            }
        }
    }
}
