//! HTTP by curl and wrk.

use std::net::Ipv6Addr;
use std::time::Instant;

use anyhow::{Context, Result, ensure};

use crate::cable::Cable;
use crate::content::File;

/// What was fetched, and in which time.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Fetched {
    pub(crate) seconds: f64,
    pub(crate) octets: f64,
    pub(crate) requests: f64,
}

/// One client that wants one large file, as an initrd does.
pub(crate) fn one(cable: &Cable, server: Ipv6Addr, file: &File) -> Result<Fetched> {
    let url = url(server, file);
    let form = "%{http_code} %{size_download} %{time_total}";
    let said = cable.far.run("curl", &["-sS", "-o", "/dev/null", "-w", form, &url])?;
    let words: Vec<&str> = said.split(' ').collect();
    let [code, octets, seconds] = words.as_slice() else { anyhow::bail!("curl said: {said}") };
    let octets: f64 = octets.parse()?;
    ensure!(*code == "200" && octets == as_f64(file.size), "curl {url}: {said}");
    Ok(Fetched { seconds: seconds.trim().parse()?, octets, requests: 1.0 })
}

/// Several clients that want a file again and again, each on a connection that it keeps.
pub(crate) fn many(cable: &Cable, url: &str, clients: usize, seconds: u64) -> Result<Fetched> {
    let (clients, duration) = (clients.to_string(), format!("{seconds}s"));
    let begun = Instant::now();
    let said = cable.far.run("wrk", &["-t1", "-c", &clients, "-d", &duration, "--timeout", "20s", url])?;
    let whole = begun.elapsed().as_secs_f64();
    ensure!(!said.contains("Non-2xx") && !said.contains("Socket errors"), "wrk {url}:\n{said}");
    // `  1234 requests in 3.00s, 1.23GB read`
    let line = said.lines().find(|line| line.contains(" requests in ")).context("wrk counted nothing")?;
    let words: Vec<&str> = line.split_whitespace().collect();
    let [requests, _, _, seconds, octets, _] = words.as_slice() else { anyhow::bail!("wrk said: {line}") };
    let seconds = seconds.trim_end_matches("s,").parse().unwrap_or(whole);
    Ok(Fetched { seconds, octets: octets_of(octets)?, requests: requests.parse()? })
}

/// Fetches a file and gives its digest.
pub(crate) fn digest(cable: &Cable, url: &str, extra: &[&str]) -> Result<String> {
    let line = "curl -sSf \"$@\" | sha256sum";
    let said = cable.far.run("sh", &[&["-c", line, "sh"], extra, &[url]].concat())?;
    Ok(said.split(' ').next().unwrap_or_default().to_owned())
}

/// Where a file is, on every server.
pub(crate) fn url(server: Ipv6Addr, file: &File) -> String {
    format!("http://[{server}]/artefacts/{}", file.sha256)
}

/// wrk's figures: 1.23GB.
fn octets_of(text: &str) -> Result<f64> {
    let digits = text.trim_end_matches(|letter: char| letter.is_ascii_alphabetic());
    let unit = match text.get(digits.len()..) {
        Some("B") => 1.0,
        Some("KB") => 1024.0,
        Some("MB") => 1024.0 * 1024.0,
        Some("GB") => 1024.0 * 1024.0 * 1024.0,
        _ => anyhow::bail!("`{text}` is no number of octets"),
    };
    Ok(digits.parse::<f64>()? * unit)
}

#[expect(clippy::cast_precision_loss, reason = "no file here has 2^52 octets")]
pub(crate) fn as_f64(number: u64) -> f64 {
    number as f64
}
