//! HTTPS for firmware, with curl as a client that is as narrow as firmware: TLS 1.2 and no key exchange but RSA's.

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, SystemTime};

use anyhow::{Result, ensure};
use bootstrap::pki::boot;
use serde_json::json;

use super::lab::{Lab, NEAR};
use super::served::near_mac;
use crate::cli::binary;
use crate::cli::explain::{UKI, settings};

/// What firmware offers.
const FIRMWARE: [&str; 5] = ["--tlsv1.2", "--tls-max", "1.2", "--ciphers", "AES256-GCM-SHA384"];
/// Words of firmware that boots by HTTP.
const HTTP_BOOT: [&str; 2] = ["16", "HTTPClient:Arch:00016:UNDI:003000"];

/// What curl says to a URL, with further words.
fn curl(lab: &Lab, further: &[&str], url: &str) -> Result<String> {
    let authority = lab.path("ca.crt");
    let words = ["-sS", "--fail", "--max-time", "20", "--cacert", &authority];
    lab.far.run("curl", &[&words[..], further, &[url]].concat())
}

#[test]
fn firmware_is_told_of_https_once_there_is_a_certificate_and_of_nothing_else() -> Result<()> {
    let lab = Lab::start("nbtlsurl")?;
    lab.want_https()?;
    lab.serve()?;
    let none = lab.dhclient("before", &HTTP_BOOT)?;
    ensure!(none.url.is_empty(), "{none:?}");
    let pxe = lab.dhclient("pxe", &["7", "PXEClient:Arch:00007:UNDI:003000"])?;
    ensure!(pxe.url == format!("tftp://[{NEAR}]/node.efi"), "{pxe:?}");
    lab.certify()?;
    let mut tries = 0;
    lab.wait_for("a URL", |lab| {
        tries += 1;
        let lease = lab.dhclient(&format!("after{tries}"), &HTTP_BOOT)?;
        ensure!(lease.url.is_empty() || lease.url == format!("https://[{NEAR}]/boot/node.efi"), "{lease:?}");
        Ok(!lease.url.is_empty())
    })
}

#[test]
fn a_client_as_narrow_as_firmware_loads_its_file_by_https() -> Result<()> {
    let lab = Lab::start("nbtls")?;
    let octets = lab.content("node.efi", 3_000_001)?;
    lab.want_https()?;
    lab.certify()?;
    lab.serve()?;
    lab.configure_far()?;
    let url = format!("https://[{NEAR}]/boot/node.efi");
    let out = lab.path("loaded");
    // Firmware that does not trust the site says no more than that, so the operator is told.
    let strangers = ["--cacert", "/etc/ssl/certs/ca-certificates.crt"];
    ensure!(curl(&lab, &strangers, &url).is_err(), "an unknown authority is good enough");
    lab.wait_for("the reason", |lab| {
        Ok(lab.status()?.reason.is_some_and(|reason| reason.contains("broke off HTTPS")))
    })?;
    // Once for its size, then for the file, on one connection.
    let head = curl(&lab, &[&FIRMWARE[..], &["--head"]].concat(), &url)?;
    ensure!(head.contains("Content-Length: 3000001"), "{head}");
    let written = ["-o", &out, "-w", "%{num_connects} %{http_code}"];
    let said = curl(&lab, &[&FIRMWARE[..], &written].concat(), &url)?;
    ensure!(said == "1 200" && fs::read(&out)? == octets, "{said}");
    curl(&lab, &[&FIRMWARE[..], &["-r", "1000000-1000009", "-o", &out]].concat(), &url)?;
    ensure!(fs::read(&out)? == octets[1_000_000..1_000_010], "another part");
    // A client that has better is not held to what firmware has.
    let best = curl(&lab, &["-o", &out, "-w", "%{http_code}"], &url)?;
    ensure!(best == "200" && fs::read(&out)? == octets, "{best:?}");
    for (what, further, url) in [
        ("an older TLS", &["--tls-max", "1.1"][..], url.as_str()),
        ("an address that is not certified", &[], &format!("https://[{}]/boot/node.efi", super::lab::BOOT)),
        ("an unknown authority", &strangers, &url),
    ] {
        ensure!(curl(&lab, further, url).is_err(), "{what} is good enough");
    }
    // By HTTP the file is there as before: iPXE and initrds are told of it.
    curl(&lab, &["-o", &out], &format!("http://[{NEAR}]/boot/node.efi")).map(drop)
}

/// The real service of a seed; it ends with this value.
struct Seed(Child);

impl Seed {
    fn start(lab: &Lab, settings: &str) -> Result<Self> {
        let log = File::options().append(true).create(true).open(lab.path("output"))?;
        let mut command = Command::new(binary());
        command.args(["--settings", settings, "gateway"]).stdin(Stdio::null());
        command.stdout(log.try_clone()?).stderr(log);
        Ok(Self(lab.near.network()?.enter(move || command.spawn())??))
    }
}

impl Drop for Seed {
    fn drop(&mut self) {
        // Fails only when it is already gone.
        let _gone = self.0.kill().and_then(|()| self.0.wait());
    }
}

#[test]
fn a_seed_certifies_itself_before_there_is_a_cluster_and_once() -> Result<()> {
    let lab = Lab::start("nbtlsseed")?;
    let authority = boot::authority(SystemTime::now())?;
    fs::write(lab.path("ca.crt"), &authority.certificate_pem)?;
    fs::write(lab.path("ca.key"), authority.key_pem.expose())?;
    let mut settings = settings(Path::new(&lab.path("")), &[(near_mac(0), "near0".to_owned())]);
    settings["boot_authority"] = authority.certificate_pem.as_str().into();
    settings["seed"] = json!({
        "image_stores": [lab.path("images")], "excluded": [], "boot_authority_key": lab.path("ca.key"),
    });
    // The API server's; it is not asked yet.
    settings["site"]["ca_cert_pem"] = authority.certificate_pem.as_str().into();
    let octets = lab.content(UKI, 1000)?;
    let path = lab.path("gateway.json");
    fs::write(&path, settings.to_string())?;
    let seed = Seed::start(&lab, &path)?;
    lab.configure_far()?;
    let (url, out) = (format!("https://[{NEAR}]/boot/node-x64.efi"), lab.path("loaded"));
    let load = || curl(&lab, &[&FIRMWARE[..], &["-o", &out]].concat(), &url);
    lab.wait_for("a boot file", |_| Ok(load().is_ok()))?;
    ensure!(fs::read(&out)? == octets, "another file");
    let kept = fs::read(lab.path("boot-server.json"))?;
    drop(seed);
    let _again = Seed::start(&lab, &path)?;
    lab.wait_for("a boot file after a restart", |_| Ok(load().is_ok()))?;
    ensure!(fs::read(lab.path("boot-server.json"))? == kept, "another certificate");
    let lease = lab.dhclient("told", &HTTP_BOOT)?;
    ensure!(lease.url == url, "{lease:?}");
    Ok(())
}

#[test]
fn what_is_no_tls_and_too_much_of_it_keeps_nobody_out() -> Result<()> {
    let lab = Lab::start("nbtlsabuse")?;
    lab.want_https()?;
    lab.certify()?;
    lab.serve()?;
    lab.configure_far()?;
    let url = format!("https://[{NEAR}]/boot/node.efi");
    let near: SocketAddr = format!("[{NEAR}]:443").parse()?;
    // More than there are seats, half of them silent, half of them with words that are no TLS.
    let crowd = lab.far.network()?.enter(move || {
        (0..400)
            .map(|number| {
                let mut stream = TcpStream::connect_timeout(&near, Duration::from_secs(20))?;
                if number % 2 == 0 {
                    stream.write_all(b"GET /boot/node.efi HTTP/1.1\r\nHost: a\r\n\r\n")?;
                }
                Ok(stream)
            })
            .collect::<std::io::Result<Vec<_>>>()
    })??;
    lab.wait_for("a file beside the crowd", |lab| Ok(curl(lab, &FIRMWARE, &url).is_ok()))?;
    for mut stream in crowd.into_iter().step_by(2).take(20) {
        stream.set_read_timeout(Some(Duration::from_secs(40)))?;
        let mut answer = Vec::new();
        // An alert or the end, and nothing in the clear.
        let _reset = stream.read_to_end(&mut answer);
        ensure!(!answer.starts_with(b"HTTP"), "{}", String::from_utf8_lossy(&answer));
    }
    ensure!(lab.resident_kib()? < 64 * 1024, "{} KiB", lab.resident_kib()?);
    Ok(())
}
