//! What `meshboot explain` says of a port and of a recording is what the server on that port did.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, ChildStderr, Command, Stdio};

use anyhow::{Context, Result, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use tests::answers;

use super::lab::{FAR, Lab, NEAR};
use super::served::near_mac;
use crate::cli::binary;
use crate::cli::explain::{UKI, settings};

/// The boot file of a site's settings, and the one of the lab.
const NAMES: [&str; 2] = ["node-x64.efi", "node.efi"];

/// tcpdump on the far port; it ends with the test.
struct Recorder {
    child: Child,
    /// It has a last word for this, and must not be killed by it.
    _said: BufReader<ChildStderr>,
}

impl Recorder {
    fn start(lab: &Lab, path: &str) -> Result<Self> {
        let path = path.to_owned();
        let mut child = lab.far.network()?.enter(move || {
            let mut command = Command::new("tcpdump");
            command.args(["-i", "far0", "-U", "--immediate-mode", "-Z", "root", "-w", &path]);
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn()
        })??;
        let mut said = BufReader::new(child.stderr.take().context("tcpdump has no output")?);
        let mut line = String::new();
        while !line.contains("listening on") {
            line.clear();
            ensure!(said.read_line(&mut line)? > 0, "tcpdump does not listen");
        }
        Ok(Self { child, _said: said })
    }

    fn stop(mut self) -> Result<()> {
        kill(Pid::from_raw(i32::try_from(self.child.id())?), Signal::SIGINT)?;
        self.child.wait()?;
        Ok(())
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        // Fails only when it is already gone.
        let _gone = self.child.kill().and_then(|()| self.child.wait());
    }
}

fn explain(lab: &Lab, settings: &str, arguments: &[&str]) -> Result<Value> {
    let binary = binary().to_string_lossy().into_owned();
    let given = ["--settings", settings, "-o", "json", "explain"];
    let words = [&given[..], arguments].concat();
    let said = lab.near.run(&binary, &words)?;
    answers::are_published(&words, said.as_bytes())?;
    Ok(serde_json::from_str(&said)?)
}

fn write_settings(lab: &Lab) -> Result<String> {
    let ports: Vec<_> = (0..8).map(|port| (near_mac(port), format!("near{port}"))).collect();
    let path = lab.path("gateway.json");
    fs::write(&path, settings(Path::new(&lab.path("")), &ports).to_string())?;
    fs::write(lab.path(UKI), "")?;
    Ok(path)
}

/// A field of a described message.
fn field<'a>(says: &'a Value, name: &str) -> &'a Value {
    let fields = says["fields"].as_array().map(Vec::as_slice).unwrap_or_default();
    fields.iter().find(|field| field["name"] == name).map_or(&Value::Null, |field| &field["value"])
}

#[test]
fn a_recording_is_explained_as_the_server_answered_it() -> Result<()> {
    let lab = Lab::start("nbexplain")?;
    let settings = write_settings(&lab)?;
    let recorder = Recorder::start(&lab, &lab.path("boot.pcap"))?;
    lab.serve()?;
    lab.far.run("rdisc6", &["-1", "-r", "5", "far0"])?;
    let pxe = lab.dhclient("pxe", &["7", "PXEClient:Arch:00007:UNDI:003000"])?;
    let http = lab.dhclient("http", &["16", "HTTPClient:Arch:00016:UNDI:003000"])?;
    lab.wait_for("a default route", |lab| {
        Ok(lab.far.run("ip", &["-6", "route"])?.contains("default via fe80::"))
    })?;
    lab.far.run("curl", &["-sSf", "-o", &lab.path("got"), &pxe.url])?;
    recorder.stop()?;

    let told = explain(&lab, &settings, &["--pcap", &lab.path("boot.pcap"), "--port", "near0"])?;
    let entries = told["entries"].as_array().context("no entries")?;
    let renamed = |value: &Value| -> Result<Value> {
        Ok(serde_json::from_str(&value.to_string().replace(NAMES[0], NAMES[1]))?)
    };
    // Each message of a client, and the next of the server's in the same transaction.
    let mut answered = Vec::new();
    for (at, entry) in entries.iter().enumerate() {
        let verdict = &entry["verdict"];
        if verdict["outcome"] != "answered"
            || !entry["says"]["name"].as_str().is_some_and(|name| name.starts_with("DHCPv6"))
        {
            continue;
        }
        let transaction = field(&entry["says"], "transaction");
        let is_answer = |other: &&Value| {
            other["verdict"]["outcome"] == "ours" && field(&other["says"], "transaction") == transaction
        };
        let recorded =
            entries[at..].iter().find(is_answer).with_context(|| format!("no answer to {entry}"))?;
        let explained = renamed(&verdict["answers"][0])?;
        ensure!(explained["says"] == recorded["says"], "{explained}\n{recorded}");
        ensure!(explained["to"] == recorded["to"], "{explained}\n{recorded}");
        answered.push((
            entry["says"]["name"].clone(),
            renamed(&verdict["boot"]["url"])?,
            explained.to_string(),
        ));
    }
    for lease in [&pxe, &http] {
        ensure!(lease.address == FAR, "{lease:?}");
        for name in ["DHCPv6 Solicit", "DHCPv6 Request"] {
            let is_it = |(said, url, answer): &(Value, Value, String)| {
                said == name && *url == *lease.url && answer.contains(&format!("\"{FAR}, preferred"))
            };
            ensure!(answered.iter().any(is_it), "no {name} for {lease:?} in {answered:?}");
        }
    }
    // What was advertised, and on what occasion it would have been.
    let advertised: Vec<&Value> = entries
        .iter()
        .map(|entry| &entry["happening"]["advertised"]["sent"]["says"])
        .filter(|says| !says.is_null())
        .collect();
    let heard = entries.iter().filter(|entry| {
        entry["verdict"]["outcome"] == "ours" && entry["says"]["name"] == "Router Advertisement"
    });
    let heard: Vec<&Value> = heard.map(|entry| &entry["says"]).collect();
    ensure!(!heard.is_empty() && !advertised.is_empty(), "{told}");
    ensure!(heard.iter().chain(&advertised).all(|says| **says == *heard[0]), "{heard:?}\n{advertised:?}");
    let solicited = |entry: &&Value| {
        entry["says"]["name"] == "Router Solicitation" && entry["verdict"]["outcome"] == "answered"
    };
    ensure!(entries.iter().any(|entry| solicited(&entry)), "{told}");
    ensure!(
        entries.iter().all(|entry| entry["kind"] != "happening" || entry["happening"]["judged"].is_null()),
        "{told}"
    );
    // The transfer's request, which curl sent in its own words.
    let request = entries.iter().find(|entry| field(&entry["says"], "file") == NAMES[1]);
    let verdict = &request.context("no TFTP request")?["verdict"];
    ensure!(verdict["outcome"] == "refused" && verdict["reasons"][0] == "no such boot file", "{verdict}");
    Ok(())
}

#[test]
fn a_port_is_explained_and_nothing_is_written() -> Result<()> {
    let lab = Lab::start("nbport")?;
    lab.near.run("ip", &["addr", "add", "2001:db8::/128", "dev", "lo"])?;
    let settings = write_settings(&lab)?;
    let files = || -> Result<Vec<_>> {
        let mut names: Vec<_> =
            fs::read_dir(lab.path(""))?.map(|entry| Ok(entry?.file_name())).collect::<Result<_>>()?;
        names.sort();
        Ok(names)
    };
    let before = files()?;
    let told = explain(&lab, &settings, &["near0"])?;
    ensure!(told["served"] == false, "{told}");
    let reasons = told["reasons"].to_string();
    ensure!(reasons.contains("no gateway answers") && reasons.contains("no cable carries"), "{reasons}");
    ensure!(files()? == before, "{before:?}");
    let told = explain(&lab, &settings, &["lo"])?;
    ensure!(told["link"].is_null() && told["reasons"].to_string().contains("no Ethernet port"), "{told}");

    lab.serve()?;
    lab.wait_for("a port that is served", |lab| Ok(explain(lab, &settings, &["near0"])?["served"] == true))?;
    let told = explain(&lab, &settings, &["near0"])?;
    ensure!(told["reasons"].as_array().is_some_and(Vec::is_empty), "{told}");
    ensure!(told["link"]["near"] == NEAR && told["link"]["far"] == FAR, "{told}");
    let says = &told["advertisement"]["says"];
    ensure!(field(says, "Router Lifetime") == "1800 s" && field(says, "MTU") == "1500", "{says}");
    ensure!(field(says, "Source Link-layer Address") == near_mac(0).to_string().as_str(), "{says}");
    let urls: Vec<(u64, Option<&str>)> = told["answers"]
        .as_array()
        .context("no answers")?
        .iter()
        .map(|asked| (asked["architecture"].as_u64().unwrap_or(0), asked["verdict"]["boot"]["url"].as_str()))
        .collect();
    let tftp = format!("tftp://[{NEAR}]/{}", NAMES[0]);
    let http = format!("http://[{NEAR}]/boot/{}", NAMES[0]);
    let expected =
        [(7, Some(&*tftp)), (9, Some(&*tftp)), (16, Some(&*http)), (11, None), (19, None), (6, None)];
    ensure!(urls == expected, "{urls:?}");
    ensure!(lab.ledger()?.is_empty(), "to explain is not to allocate");
    Ok(())
}
