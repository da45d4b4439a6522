//! What rustls says, for people: what is wrong, and what to do about it.

use std::fmt::Write;

use chrono::DateTime;
use rustls::{AlertDescription as Alert, CertificateError as Certificate, Error, InvalidMessage, pki_types::UnixTime};

/// Why there is no TLS with a broker that was asked for `name`, by somebody with or without a certificate.
pub(super) fn in_words(error: &Error, name: &str, has_certificate: bool) -> String {
    match error {
        Error::InvalidCertificate(error) => certificate(error, name),
        Error::AlertReceived(alert) => alerted(*alert, has_certificate),
        Error::InvalidMessage(InvalidMessage::InvalidContentType) => {
            "what listens there does not speak TLS (say --security plaintext, or name its TLS port)".to_owned()
        }
        Error::PeerIncompatible(reason) => {
            format!("it offers nothing that we take ({reason:?}); TLS 1.2 and 1.3 are taken")
        }
        other => other.to_string(),
    }
}

fn certificate(error: &Certificate, name: &str) -> String {
    match error {
        Certificate::UnknownIssuer => {
            "its certificate was issued by an unknown authority: give the authority's certificate with --tls-ca".to_owned()
        }
        Certificate::Expired => "its certificate has expired".to_owned(),
        Certificate::ExpiredContext { not_after, .. } => {
            format!("its certificate expired on {}: the broker needs a new one (or is the clock here wrong?)", at(*not_after))
        }
        Certificate::NotValidYet => "its certificate is not valid yet (is the clock here wrong?)".to_owned(),
        Certificate::NotValidYetContext { not_before, .. } => {
            format!("its certificate is valid only from {} (is the clock here wrong?)", at(*not_before))
        }
        Certificate::NotValidForNameContext { presented, .. } => wrong_name(name, presented),
        Certificate::NotValidForName => wrong_name(name, &[]),
        Certificate::BadSignature => {
            "its certificate is not signed by the authority that it names: is --tls-ca of another authority with the same \
             name?"
                .to_owned()
        }
        Certificate::Other(other) if format!("{other:?}").contains("CaUsedAsEndEntity") => {
            "its certificate is an authority's own (CA:TRUE), which cannot be a server's: have that authority issue one for \
             the broker, and give the authority's with --tls-ca"
                .to_owned()
        }
        other => other.to_string(),
    }
}

fn wrong_name(name: &str, presented: &[String]) -> String {
    let mut text = format!("its certificate is not for {name}, but for ");
    match presented {
        [] => text.push_str("no name at all (it has no subjectAltName)"),
        names => {
            for (i, name) in names.iter().enumerate() {
                let separator = if i > 0 { ", " } else { "" };
                // rustls shows them as `DnsName("kafka")` and `IpAddress(10.0.0.7)`.
                let name = name.split_once('(').map_or(name.as_str(), |(_, name)| name.trim_matches(['"', ')']));
                _ = write!(text, "{separator}{name}");
            }
        }
    }
    text.push_str(": say its name with --tls-server-name, or check the chain alone with --tls-no-server-name-check");
    text
}

/// An alert is the broker's view of us.
fn alerted(alert: Alert, has_certificate: bool) -> String {
    let advice = match alert {
        Alert::CertificateRequired | Alert::NoCertificate | Alert::BadCertificate if !has_certificate => {
            "it wants a client certificate: give one with --tls-cert and --tls-key"
        }
        Alert::HandshakeFailure => {
            "it has no cipher in common with us, or wants another client certificate (--tls-cert, --tls-key)"
        }
        Alert::BadCertificate | Alert::UnsupportedCertificate | Alert::CertificateUnknown if has_certificate => {
            "it does not take our client certificate: is that of --tls-cert issued by an authority that it trusts?"
        }
        Alert::UnknownCA => "it does not know the authority that issued our client certificate (--tls-cert)",
        Alert::CertificateExpired => "our client certificate (--tls-cert) has expired",
        Alert::CertificateRevoked => "our client certificate (--tls-cert) was revoked",
        Alert::AccessDenied => "it does not let the owner of our client certificate in",
        Alert::ProtocolVersion => "it takes neither TLS 1.2 nor TLS 1.3",
        Alert::UnrecognisedName => "it does not know the name that we asked for: say another with --tls-server-name",
        _ => return format!("it ended the handshake ({alert:?})"),
    };
    format!("{advice} (the broker's alert: {alert:?})")
}

fn at(time: UnixTime) -> String {
    let seconds = i64::try_from(time.as_secs()).ok();
    let time = seconds.and_then(|seconds| DateTime::from_timestamp(seconds, 0));
    time.map_or_else(|| "an odd date".to_owned(), |time| format!("{} UTC", time.naive_utc()))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[track_caller]
    fn check(error: Error, expected: &str) {
        let text = in_words(&error, "kafka.example", false);
        assert!(text.contains(expected), "{text}");
    }

    #[test]
    fn each_reason_comes_with_what_to_do() {
        let time = |seconds| UnixTime::since_unix_epoch(Duration::from_secs(seconds));
        check(Certificate::UnknownIssuer.into(), "unknown authority: give the authority's certificate with --tls-ca");
        let expired = Certificate::ExpiredContext { time: time(1_800_000_000), not_after: time(1_700_000_000) };
        check(expired.into(), "expired on 2023-11-14 22:13:20 UTC");
        let expected = rustls::pki_types::ServerName::try_from("kafka.example").unwrap();
        let presented = vec!["DnsName(\"other\")".to_owned(), "IpAddress(10.0.0.1)".to_owned()];
        let name = Certificate::NotValidForNameContext { expected, presented };
        check(name.into(), "not for kafka.example, but for other, 10.0.0.1: say its name");
        check(Error::AlertReceived(Alert::CertificateRequired), "--tls-cert and --tls-key");
        check(Error::InvalidMessage(InvalidMessage::InvalidContentType), "does not speak TLS");
    }
}
