//! What a site tells whoever asks besides where it is: name servers, search domains and clocks.

use std::fmt;
use std::net::Ipv6Addr;
use std::str::FromStr;

/// A domain name as it goes over the wire: labels with their lengths, uncompressed, the root at the end
/// `[RFC 9915 § 10]`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DomainName(Vec<u8>);

/// A text that is no domain name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no domain name: labels of 1 to 63 letters, digits and inner `-`, 253 characters in all")]
pub struct DomainNameError(String);

/// What there is to tell. Nothing as a rule: machines boot without any of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Services {
    dns: Vec<Ipv6Addr>,
    search: Vec<DomainName>,
    ntp: Vec<Ipv6Addr>,
}

/// More than an answer has room for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ServicesError {
    /// A list is too long.
    #[error("{given} {what}, and there is room for {}", Services::MAX_SERVERS)]
    Many {
        /// What is listed.
        what: &'static str,
        /// How many were given.
        given: usize,
    },
    /// The search domains are too long.
    #[error("search domains of {given} octets in all, and there is room for {}", Services::MAX_SEARCH)]
    Long {
        /// How many octets were given.
        given: usize,
    },
}

// === impl DomainName ===

impl DomainName {
    /// The octets.
    #[must_use]
    pub fn as_wire(&self) -> &[u8] {
        &self.0
    }
}

impl FromStr for DomainName {
    type Err = DomainNameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error = || DomainNameError(text.to_owned());
        let name = text.strip_suffix('.').unwrap_or(text);
        if name.len() > 253 {
            return Err(error());
        }
        let mut wire = Vec::with_capacity(name.len() + 2);
        for label in name.split('.') {
            let len = u8::try_from(label.len()).ok().filter(|len| (1..=63).contains(len));
            let plain = label.bytes().all(|octet| octet.is_ascii_alphanumeric() || octet == b'-');
            let dashed = label.starts_with('-') || label.ends_with('-');
            let len = len.filter(|_| plain && !dashed).ok_or_else(error)?;
            wire.push(len);
            wire.extend(label.bytes());
        }
        wire.push(0);
        Ok(Self(wire))
    }
}

impl fmt::Display for DomainName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = self.0.as_slice();
        let mut dot = "";
        while let Some((len, behind)) = rest.split_first()
            && let Some((label, behind)) = behind.split_at_checked(usize::from(*len))
            && !label.is_empty()
        {
            write!(f, "{dot}{}", String::from_utf8_lossy(label))?;
            dot = ".";
            rest = behind;
        }
        Ok(())
    }
}

// === impl Services ===

impl Services {
    /// The longest list of servers or domains: resolvers read no more than three or six of them.
    pub const MAX_SERVERS: usize = 4;
    /// The most octets of all search domains together.
    pub const MAX_SEARCH: usize = 256;

    /// Services that fit into every answer.
    ///
    /// # Errors
    ///
    /// A list is longer than an answer has room for.
    pub fn new(
        dns: Vec<Ipv6Addr>,
        search: Vec<DomainName>,
        ntp: Vec<Ipv6Addr>,
    ) -> Result<Self, ServicesError> {
        let lengths = [("name servers", dns.len()), ("search domains", search.len()), ("clocks", ntp.len())];
        if let Some((what, given)) = lengths.into_iter().find(|(_, len)| *len > Self::MAX_SERVERS) {
            return Err(ServicesError::Many { what, given });
        }
        let given = search.iter().map(|name| name.0.len()).sum();
        if given > Self::MAX_SEARCH {
            return Err(ServicesError::Long { given });
        }
        Ok(Self { dns, search, ntp })
    }

    /// Recursive DNS servers, the best first.
    #[must_use]
    pub fn dns(&self) -> &[Ipv6Addr] {
        &self.dns
    }

    /// Domains to look for short names in, the first one first.
    #[must_use]
    pub fn search(&self) -> &[DomainName] {
        &self.search
    }

    /// NTP servers, the best first.
    #[must_use]
    pub fn ntp(&self) -> &[Ipv6Addr] {
        &self.ntp
    }
}

#[cfg(test)]
mod tests;
