//! PURE: PEM (RFC 7468) as it occurs: with text around it, and with its line breaks lost in a properties file.

use base64::{Engine, engine::general_purpose::STANDARD};
use zeroize::Zeroizing;

/// One object of a PEM text.
pub(super) struct Block<'a> {
    /// What it says it is: `CERTIFICATE`, `PRIVATE KEY`.
    pub(super) label: &'a str,
    pub(super) der: Zeroizing<Vec<u8>>,
}

/// All objects of `text`, in order. What lies between them is a comment.
///
/// # Errors
/// What is wrong with it.
pub(super) fn blocks(text: &str) -> Result<Vec<Block<'_>>, String> {
    let mut blocks = Vec::new();
    let mut rest = text;
    while let Some((_, begun)) = rest.split_once("-----BEGIN ") {
        let (label, body) = begun.split_once("-----").ok_or("a BEGIN line without its end")?;
        let end = format!("-----END {label}-----");
        let (body, after) = body.split_once(end.as_str()).ok_or_else(|| format!("no END line for {label}"))?;
        if body.contains("Proc-Type:") {
            return Err(format!(
                "the {label} is encrypted in OpenSSL's old way, which is not read: convert it with openssl pkcs8 -topk8 -v2 \
                 aes-256-cbc -in OLD.key -out NEW.key"
            ));
        }
        let digits: Zeroizing<Vec<u8>> = Zeroizing::new(body.bytes().filter(|b| !b.is_ascii_whitespace()).collect());
        let der = STANDARD.decode(&*digits).map_err(|error| format!("the {label} is not Base64: {error}"))?;
        blocks.push(Block { label: label.trim(), der: Zeroizing::new(der) });
        rest = after;
    }
    Ok(blocks)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_are_found_with_text_around_them_and_on_one_line() {
        let text = "Bag Attributes\n-----BEGIN CERTIFICATE-----\nAAEC\nAwQ=\n-----END CERTIFICATE-----\nkey:\n\
                    -----BEGIN EC PRIVATE KEY----- BQYH -----END EC PRIVATE KEY-----";
        let found: Vec<_> = blocks(text).unwrap().into_iter().map(|block| (block.label, block.der.to_vec())).collect();
        assert_eq!(found, [("CERTIFICATE", vec![0, 1, 2, 3, 4]), ("EC PRIVATE KEY", vec![5, 6, 7])]);
        assert!(blocks("nothing of the kind").unwrap().is_empty());
    }

    #[test]
    fn what_is_broken_is_said() {
        let check = |text: &str, reason: &str| {
            let error = blocks(text).err().expect("refused");
            assert!(error.contains(reason), "{error}");
        };
        check("-----BEGIN CERTIFICATE-----\nAAEC\n", "no END line for CERTIFICATE");
        check("-----BEGIN CERTIFICATE", "BEGIN line");
        check("-----BEGIN X-----\n??\n-----END X-----", "not Base64");
        let old = "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n\nAAEC\n-----END RSA PRIVATE KEY-----";
        check(old, "openssl pkcs8 -topk8");
    }
}
