//! PURE: a broker's address, as people write it.

use std::{fmt, net::Ipv6Addr, str::FromStr};

/// The port of a broker that is named without one.
const DEFAULT_PORT: u16 = 9092;

/// Where a broker listens: `kafka.example:9092`, `10.0.0.7`, `[2001:db8::7]:9092`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct HostPort {
    /// A name or an address, without brackets.
    pub host: String,
    /// The TCP port.
    pub port: u16,
}

/// Why a text names no broker.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// There is no host in it.
    #[error("{0:?} has no host")]
    NoHost(String),
    /// What follows the last colon is not a port.
    #[error("{0:?} has no port from 1 to 65535 after its colon")]
    Port(String),
    /// Colons that are no port: an IPv6 address that is none, or lacks its brackets.
    #[error("{0:?} is no address; an IPv6 address with a port is written [2001:db8::7]:9092")]
    Ipv6(String),
}

impl FromStr for HostPort {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let text = text.trim();
        let port = |digits: &str| match digits.parse() {
            Ok(port) if port > 0 => Ok(port),
            _ => Err(AddressError::Port(text.to_owned())),
        };
        if let Some(rest) = text.strip_prefix('[') {
            let (host, rest) = rest.split_once(']').ok_or_else(|| AddressError::Ipv6(text.to_owned()))?;
            host.parse::<Ipv6Addr>().map_err(|_| AddressError::Ipv6(text.to_owned()))?;
            let port = match rest.strip_prefix(':') {
                Some(digits) => port(digits)?,
                None if rest.is_empty() => DEFAULT_PORT,
                None => return Err(AddressError::Port(text.to_owned())),
            };
            return Ok(Self { host: host.to_owned(), port });
        }
        let (host, port) = match text.split_once(':') {
            None => (text, DEFAULT_PORT),
            Some((_, rest)) if rest.contains(':') => {
                text.parse::<Ipv6Addr>().map_err(|_| AddressError::Ipv6(text.to_owned()))?;
                (text, DEFAULT_PORT)
            }
            Some((host, digits)) => (host, port(digits)?),
        };
        if host.is_empty() {
            return Err(AddressError::NoHost(text.to_owned()));
        }
        Ok(Self { host: host.to_owned(), port })
    }
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, port } = self;
        if host.contains(':') { write!(f, "[{host}]:{port}") } else { write!(f, "{host}:{port}") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: Result<&str, AddressError>) {
        let parsed = text.parse::<HostPort>().map(|a| a.to_string());
        assert_eq!(parsed, expected.map(str::to_owned), "{text:?}");
    }

    #[test]
    fn addresses_as_people_write_them() {
        check("kafka:9093", Ok("kafka:9093"));
        check(" kafka ", Ok("kafka:9092"));
        check("10.0.0.7:1", Ok("10.0.0.7:1"));
        check("[::1]:9093", Ok("[::1]:9093"));
        check("[::1]", Ok("[::1]:9092"));
        check("2001:db8::7", Ok("[2001:db8::7]:9092"));
    }

    #[test]
    fn what_names_no_broker_is_refused() {
        check("", Err(AddressError::NoHost(String::new())));
        check(":9092", Err(AddressError::NoHost(":9092".into())));
        check("kafka:", Err(AddressError::Port("kafka:".into())));
        check("kafka:0", Err(AddressError::Port("kafka:0".into())));
        check("kafka:70000", Err(AddressError::Port("kafka:70000".into())));
        check("[::1]9092", Err(AddressError::Port("[::1]9092".into())));
        check("[kafka]:9092", Err(AddressError::Ipv6("[kafka]:9092".into())));
        check("a:b:1", Err(AddressError::Ipv6("a:b:1".into())));
        check("[::1", Err(AddressError::Ipv6("[::1".into())));
    }
}
