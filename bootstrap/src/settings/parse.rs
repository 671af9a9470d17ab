//! From texts to values.

use std::fmt::Display;
use std::net::Ipv6Addr;
use std::str::FromStr;
use std::time::Duration;

use ignition::Cni;
use images::store::RegistryName;
use ipnet::{Ipv4Net, Ipv6Net};
use mesh::AddressPlan;
use netboot_server::DomainName;
use toml::Value;

use super::keys::Key;
use super::{ConfigError, Raw, credentials};
use crate::gateway::settings::{Ask, MirrorSettings};

/// Least memory that a machine boots with, in MiB.
const LEAST_MEMORY_MIB: u64 = 512;
const LEAST_DISK: u64 = 1 << 30;
const MOST_CPUS: u16 = 64;

/// Takes one value after the other and keeps the mistakes.
#[derive(Debug)]
pub(super) struct Reader {
    raw: Raw,
}

// === impl Reader ===

impl Reader {
    pub(super) fn new(raw: Raw) -> Self {
        Self { raw }
    }

    /// Every mistake that was found.
    pub(super) fn finish(self) -> Vec<ConfigError> {
        self.raw.mistakes
    }

    pub(super) fn optional<T>(&mut self, name: &str, parse: impl Fn(&str) -> Result<T, String>) -> Option<T> {
        let value = self.value(name)?;
        let parsed = text(&value).and_then(|text| parse(&text));
        parsed.map_err(|problem| self.mistake(name, problem)).ok()
    }

    /// A setting that has a default. A wrong value is noted, and the default stands in for it until all is read.
    pub(super) fn required<T>(&mut self, name: &str, parse: impl Fn(&str) -> Result<T, String>) -> T {
        self.optional(name, &parse).unwrap_or_else(|| {
            let default = Key::find(name).and_then(Key::default_value).and_then(|value| text(&value).ok());
            let default = default.expect("a required setting has a default");
            parse(&default).unwrap_or_else(|problem| unreachable!("default of {name}: {problem}"))
        })
    }

    pub(super) fn list<T>(&mut self, name: &str, parse: impl Fn(&str) -> Result<T, String>) -> Vec<T> {
        let items = match self.value(name) {
            None => return Vec::new(),
            Some(Value::Array(items)) => items,
            Some(other) => {
                self.mistake(name, format!("it is {}, not a list", other.type_str()));
                return Vec::new();
            }
        };
        let parsed = items.iter().map(|item| text(item).and_then(|text| parse(&text)));
        let (good, bad): (Vec<_>, Vec<_>) = parsed.partition(Result::is_ok);
        for problem in bad.into_iter().filter_map(Result::err) {
            self.mistake(name, problem);
        }
        good.into_iter().filter_map(Result::ok).collect()
    }

    /// The plan in its prefixes, with every address that was given one by one.
    pub(super) fn addresses(&mut self) -> AddressPlan {
        let anycast = self.required("addresses.anycast", ipv6_net);
        let machines = self.required("addresses.machines", ipv6_net);
        let mut plan = AddressPlan::in_prefixes(anycast.trunc(), machines);
        plan.anycast = anycast;
        let mut address = |name: &str, place: &mut Ipv6Addr| {
            if let Some(given) = self.optional(name, display_error::<Ipv6Addr>) {
                *place = given;
            }
        };
        address("addresses.apiserver", &mut plan.apiserver);
        address("addresses.etcd", &mut plan.etcd);
        address("addresses.boot", &mut plan.boot);
        if let Some(services) = self.optional("addresses.services", ipv6_net) {
            plan.services = services;
        }
        for registry in self.list("addresses.further-mirrors", registry) {
            let mirror = plan.further_mirror(&registry);
            plan.mirrors.push(mirror);
        }
        plan
    }

    /// How a seed's mirrors get what they have not got. The files are read: they go to the seed.
    pub(super) fn mirrors(&mut self) -> MirrorSettings {
        MirrorSettings {
            ask: self.required("mirrors.ask", display_error::<Ask>),
            room: self.required("mirrors.room", size),
            revalidate: self.required("mirrors.revalidate", age),
            endpoints: self.list("mirrors.endpoints", endpoint).into_iter().collect(),
            credentials: self.required("mirrors.credentials", credentials::read),
            proxy: self.optional("mirrors.proxy", url),
            no_proxy: self.list("mirrors.no-proxy", |text| Ok(text.to_owned())),
            authorities: self.required("mirrors.authorities", authorities),
        }
    }

    fn value(&self, name: &str) -> Option<Value> {
        let given = self.raw.values.get(name).map(|(value, _)| value.clone());
        given.or_else(|| Key::find(name).and_then(Key::default_value))
    }

    fn mistake(&mut self, name: &str, problem: String) {
        let origin = self.raw.values.get(name).map(|(_, origin)| origin.clone());
        self.raw.mistakes.push(ConfigError { key: name.to_owned(), origin, problem });
    }
}

fn text(value: &Value) -> Result<String, String> {
    match value {
        Value::String(text) => Ok(text.clone()),
        Value::Integer(number) => Ok(number.to_string()),
        Value::Boolean(word) => Ok(word.to_string()),
        Value::Float(_) | Value::Datetime(_) | Value::Array(_) | Value::Table(_) => {
            Err(format!("it is {}, not a text", value.type_str()))
        }
    }
}

pub(super) fn display_error<T: FromStr<Err: Display>>(text: &str) -> Result<T, String> {
    text.parse().map_err(|error: T::Err| {
        let problem = error.to_string();
        if problem.contains(text) { problem } else { format!("`{text}`: {problem}") }
    })
}

pub(super) fn ssh_key(text: &str) -> Result<String, String> {
    let mut words = text.split_whitespace();
    let is_kind =
        |word: &str| word.starts_with("ssh-") || word.starts_with("ecdsa-") || word.starts_with("sk-");
    match (words.next(), words.next()) {
        (Some(kind), Some(_)) if is_kind(kind) && !text.contains('\n') => Ok(text.trim().to_owned()),
        _ => Err(format!("`{text}` is no public key as `ssh-keygen` writes it into a .pub file")),
    }
}

pub(super) fn domain_name(text: &str) -> Result<String, String> {
    display_error::<DomainName>(text).map(|name| name.to_string())
}

pub(super) fn suite(text: &str) -> Result<String, String> {
    let good = !text.is_empty() && text.bytes().all(|octet| octet.is_ascii_lowercase() || octet == b'-');
    if good { Ok(text.to_owned()) } else { Err(format!("`{text}` is no suite of Debian, as trixie is one")) }
}

/// A package's name `[Debian Policy § 5.6.1]`.
pub(super) fn package(text: &str) -> Result<String, String> {
    let allowed = |octet: u8| octet.is_ascii_lowercase() || octet.is_ascii_digit() || b"+-.".contains(&octet);
    let begins = text.starts_with(|first: char| first.is_ascii_alphanumeric());
    let good = text.len() > 1 && begins && text.bytes().all(allowed);
    if good {
        Ok(text.to_owned())
    } else {
        Err(format!("`{text}` is no package of Debian, as pciutils is one"))
    }
}

/// One word. What machines are told by meshboot itself is not for others to say.
pub(super) fn kernel_argument(text: &str) -> Result<String, String> {
    if text.is_empty() || !text.bytes().all(|octet| octet.is_ascii_graphic()) {
        return Err(format!("`{text}` is no word of the kernel's command line"));
    }
    match text.split_once('=').map_or(text, |(key, _)| key) {
        key if key.starts_with("meshboot.") || key.starts_with("ignition.") => {
            Err(format!("`{text}`: {key} is set by meshboot itself"))
        }
        _ => Ok(text.to_owned()),
    }
}

pub(super) fn url(text: &str) -> Result<String, String> {
    let rest = text.strip_prefix("http://").or_else(|| text.strip_prefix("https://"));
    let good = rest.is_some_and(|rest| !rest.is_empty() && !rest.contains(char::is_whitespace));
    if good { Ok(text.trim_end_matches('/').to_owned()) } else { Err(format!("`{text}` is no http(s) URL")) }
}

fn registry(text: &str) -> Result<String, String> {
    let allowed = |octet: u8| octet.is_ascii_alphanumeric() || matches!(octet, b'.' | b'-' | b':');
    if text.contains('.') && text.bytes().all(allowed) {
        Ok(text.to_owned())
    } else {
        Err(format!("`{text}` is no registry, as docker.io is one"))
    }
}

/// `registry.example=http://10.0.0.1:5000`
fn endpoint(text: &str) -> Result<(String, String), String> {
    let (name, place) = text.split_once('=').ok_or_else(|| format!("`{text}` is not NAME=URL"))?;
    Ok((display_error::<RegistryName>(name)?.as_str().to_owned(), url(place)?))
}

/// `5m`, `always`, `never`, in seconds.
fn age(text: &str) -> Result<Option<u64>, String> {
    match text {
        "never" => Ok(None),
        "always" => Ok(Some(0)),
        time => duration(time).map(|time| Some(time.as_secs())),
    }
}

fn authorities(path: &str) -> Result<Option<String>, String> {
    if path == "none" {
        return Ok(None);
    }
    let text = std::fs::read_to_string(path).map_err(|error| format!("`{path}` cannot be read: {error}"))?;
    let route = images::client::Route { authorities: Some(text.clone()), ..Default::default() };
    images::client::client_by(&route).map_err(|error| format!("`{path}`: {error}"))?;
    Ok(Some(text))
}

/// A path is only looked at, by reading it: the configuration goes into every node.
pub(super) fn cni(text: &str) -> Result<Cni, String> {
    match text {
        "routed" => Ok(Cni::Routed),
        "none" => Ok(Cni::None),
        path => match std::fs::read_to_string(path) {
            Ok(config) => match serde_json::from_str::<serde_json::Value>(&config) {
                Ok(_) => Ok(Cni::File(config)),
                Err(error) => Err(format!("`{path}` is no CNI configuration: {error}")),
            },
            Err(error) => Err(format!("`{path}` is neither routed nor none, and cannot be read: {error}")),
        },
    }
}

/// `2GiB`, `2048MiB`, `2G`; a plain number is octets.
pub(crate) fn size(text: &str) -> Result<u64, String> {
    let octets = octets(text)?;
    if octets < LEAST_DISK { Err(format!("`{text}` is less than 1 GiB")) } else { Ok(octets) }
}

pub(crate) fn memory_mib(text: &str) -> Result<u32, String> {
    let mib = octets(text)? >> 20;
    if mib < LEAST_MEMORY_MIB {
        return Err(format!("`{text}` is less than {LEAST_MEMORY_MIB} MiB, which no machine boots with"));
    }
    u32::try_from(mib).map_err(|_| format!("`{text}` is more than any machine has"))
}

pub(crate) fn octets(text: &str) -> Result<u64, String> {
    let error = || format!("`{text}` is no size: a number with KiB, MiB, GiB or TiB, as 2GiB");
    let at = text.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(at);
    let shift = match unit.trim() {
        "" | "B" => 0,
        "K" | "KiB" => 10,
        "M" | "MiB" => 20,
        "G" | "GiB" => 30,
        "T" | "TiB" => 40,
        _ => return Err(error()),
    };
    let number: u64 = number.parse().map_err(|_| error())?;
    number.checked_mul(1 << shift).ok_or_else(error)
}

/// `auto`, or a number.
pub(crate) fn cpus(text: &str) -> Result<Option<u16>, String> {
    if text == "auto" {
        return Ok(None);
    }
    let number = text.parse().ok().filter(|number| (1..=MOST_CPUS).contains(number));
    let number =
        number.ok_or_else(|| format!("`{text}` is no number of processors: 1 to {MOST_CPUS}, or auto"))?;
    Ok(Some(number))
}

/// `90s`, `45m`, `2h`, `50ms`.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let error = || format!("`{text}` is no duration: a number with ms, s, m or h, as 60m");
    let at = text.find(|letter: char| !letter.is_ascii_digit()).ok_or_else(error)?;
    let (number, unit) = text.split_at(at);
    let millis: u64 = match unit {
        "ms" => 1,
        "s" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return Err(error()),
    };
    let number: u64 = number.parse().map_err(|_| error())?;
    let whole = number.checked_mul(millis).filter(|millis| *millis > 0).ok_or_else(error)?;
    Ok(Duration::from_millis(whole))
}

/// A port: its name in the kernel, or its Ethernet address.
pub(crate) fn port(text: &str) -> Result<String, String> {
    let plain = |c: char| c.is_ascii_graphic() && c != '/';
    if text.parse::<mesh::Mac>().is_ok() || ((1..=15).contains(&text.len()) && text.chars().all(plain)) {
        return Ok(text.to_owned());
    }
    Err(format!("`{text}` is neither a port's name nor an Ethernet address"))
}

fn ipv6_net(text: &str) -> Result<Ipv6Net, String> {
    text.parse().map_err(|_| format!("`{text}` is no IPv6 prefix, as 2001:db8::/71 is one"))
}

/// This computer is the first address of a network that has a second one.
pub(super) fn host_v4(text: &str) -> Result<Ipv4Net, String> {
    let net: Ipv4Net =
        text.parse().map_err(|_| format!("`{text}` is no IPv4 address with a prefix length"))?;
    if net.prefix_len() <= 30 && net.hosts().next() == Some(net.addr()) {
        return Ok(net);
    }
    Err(format!("`{text}` must be the first address of a network of two or more, as 172.30.0.1/30"))
}

pub(super) fn host_v6(text: &str) -> Result<Ipv6Net, String> {
    let net: Ipv6Net =
        text.parse().map_err(|_| format!("`{text}` is no IPv6 address with a prefix length"))?;
    if net.prefix_len() <= 126 && net.addr().to_bits() == net.network().to_bits() + 1 {
        return Ok(net);
    }
    Err(format!("`{text}` must be address 1 of a network of four or more, as 2001:db8:a001::1/64"))
}
