//! What `meshboot explain` says of recordings, and which it refuses.

use std::fs;
use std::path::Path;

use anyhow::{Result, ensure};
use bootstrap::explain::ask::FIRMWARES;
use mesh::{Mac, MachineId};
use serde_json::{Value, json};

use super::Desk;

const CLIENT: Mac = Mac([2, 0, 0, 0, 9, 1]);
/// Of 802.11.
const WIRELESS: u32 = 105;
const ETHERNET: u32 = 1;

/// The digest of the boot file in [`settings`].
pub(crate) const UKI: &str = "abababababababababababababababababababababababababababababababab";

/// Settings of a gateway whose ports have these Ethernet addresses and names, with its files in a folder.
pub(crate) fn settings(folder: &Path, ports: &[(Mac, String)]) -> Value {
    let artefact = json!({ "sha256": UKI, "size": 1000 });
    let port =
        |(index, (mac, name)): (usize, &(Mac, String))| json!({ "index": index, "mac": mac, "name": name });
    json!({
        "site": {
            "id": "5eed0000-0000-4000-8000-000000000001",
            "plan": {},
            "kubernetes": "v1.34.2",
            "kubernetes_source": "upstream",
            "cni": "routed",
            "ssh_keys": [],
            "ca_cert_pem": "",
            "ca_spki_sha256": "",
            "nameservers": ["2001:db8::53", "192.0.2.53"],
        },
        "machine": {
            "id": MachineId::from_mac(ports[0].0),
            "name": "seed",
            "role": "seed",
            "block": 0,
            "router_id": 1,
            "ports": ports.iter().enumerate().map(port).collect::<Vec<_>>(),
        },
        "boot": { "uki": { "x64": artefact }, "root": artefact, "layer": artefact },
        "artefact_folders": [folder],
        "ledger": folder.join("ledger.redb"),
        "netboot": { "search": ["mesh.example"], "ntp": [] },
    })
}

/// A recording of firmware that asks for a boot file, in the form that tcpdump writes.
fn recording(link_type: u32) -> Vec<u8> {
    let mut file = 0xa1b2_c3d4_u32.to_le_bytes().to_vec();
    file.extend([2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4, 0]);
    file.extend(link_type.to_le_bytes());
    for (second, firmware) in (1_700_000_000_u32..).zip(FIRMWARES) {
        let solicit = firmware.solicit(CLIENT);
        let len = u16::try_from(solicit.len() + 8).unwrap();
        let mut frame = [&[0x33, 0x33, 0, 1, 0, 2][..], &CLIENT.0, &[0x86, 0xdd, 0x60, 0, 0, 0]].concat();
        frame.extend(len.to_be_bytes());
        frame.extend([17, 1]);
        frame.extend(CLIENT.link_local().octets());
        frame.extend("ff02::1:2".parse::<std::net::Ipv6Addr>().unwrap().octets());
        frame.extend([546_u16, 547, len, 0].map(u16::to_be_bytes).concat());
        frame.extend(solicit);
        let len = u32::try_from(frame.len()).unwrap();
        file.extend([second, 0, len, len].map(u32::to_le_bytes).concat());
        file.extend(frame);
    }
    file
}

#[test]
fn a_recording_from_anywhere_is_explained_on_the_example_link() -> Result<()> {
    let desk = Desk::new()?;
    fs::write(desk.directory.path().join("boot.pcap"), recording(ETHERNET))?;
    let output = desk.run(&["explain", "--pcap", "boot.pcap"])?;
    let says = String::from_utf8(output.stdout)?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    for line in [
        "example link",
        "near 2001:db8::11, far 2001:db8::12",
        "61 OPTION_CLIENT_ARCH_TYPE: 16 (x64 uefi boot from http)",
        "boots http://[2001:db8::11]/boot/node-x64.efi: a boot file for architecture 16",
        "     no boot file: there are no boot files for architecture number 6",
        "5 OPTION_IAADDR: 2001:db8::12, preferred 3600 s, valid 7200 s",
    ] {
        ensure!(says.contains(line), "no `{line}` in\n{says}");
    }
    let output = desk.run(&["-o", "json", "explain", "--pcap", "boot.pcap"])?;
    let event: Value = serde_json::from_slice(&output.stdout)?;
    let entries = event["entries"].as_array().cloned().unwrap_or_default();
    let packets: Vec<&Value> = entries.iter().filter(|entry| entry["kind"] == "packet").collect();
    ensure!(event["event"] == "result" && event["example"] == true && packets.len() == FIRMWARES.len());
    ensure!(packets.iter().all(|packet| packet["verdict"]["outcome"] == "answered"), "{event}");
    ensure!(packets[0]["verdict"]["boot"]["url"] == "tftp://[2001:db8::11]/node-x64.efi", "{event}");
    Ok(())
}

#[test]
fn settings_say_of_which_link_a_recording_is() -> Result<()> {
    let desk = Desk::new()?;
    let folder = desk.directory.path();
    let ports = [0, 1].map(|port| (Mac([2, 0, 0, 0, port, 1]), format!("enp{port}s0")));
    fs::write(folder.join("gateway.json"), settings(folder, &ports).to_string())?;
    fs::write(folder.join("boot.pcap"), recording(ETHERNET))?;
    let explain = ["--settings", "gateway.json", "explain", "--pcap", "boot.pcap"];
    for (port, near) in
        [("enp1s0", "2001:db8::15"), ("1", "2001:db8::15"), ("02:00:00:00:00:01", "2001:db8::11")]
    {
        let output = desk.run(&[&explain[..], &["--port", port]].concat())?;
        let says = String::from_utf8(output.stdout)?;
        ensure!(says.contains(&format!("boots tftp://[{near}]/node-x64.efi")), "{port}: {says}");
        ensure!(says.contains("23 OPTION_DNS_SERVERS: 2001:db8::53\n"), "{says}");
        ensure!(says.contains("there is no boot file for arm64 (architecture number 11) here"), "{says}");
    }
    desk.refuses(
        &[&explain[..], &["--port", "eth9"]].concat(),
        65,
        &["eth9", "enp0s0 (0, 02:00:00:00:00:01)"],
    )?;
    // Nothing was made of the ledger that these settings name.
    ensure!(!folder.join("ledger.redb").exists());
    Ok(())
}

#[test]
fn what_cannot_be_explained_says_why() -> Result<()> {
    let desk = Desk::new()?;
    let write = |name: &str, bytes: &[u8]| fs::write(desk.directory.path().join(name), bytes);
    let whole = recording(ETHERNET);
    write("whole", &whole)?;
    write("cut", &whole[..whole.len() - 7])?;
    write("wireless", &recording(WIRELESS))?;
    write("notes.txt", b"this is no recording at all, and long enough to be one")?;
    write("settings.json", b"{}")?;
    desk.refuses(&["explain"], 64, &["<PORT>"])?;
    desk.refuses(&["explain", "enp2s0", "--port", "enp2s0"], 64, &["cannot be used with"])?;
    desk.refuses(&["explain", "--port", "enp2s0"], 64, &["--pcap"])?;
    desk.refuses(&["explain", "enp2s0", "--pcap", "whole"], 64, &["cannot be used with"])?;
    desk.refuses(&["explain", "--pcap", "whole", "--port", "enp2s0"], 64, &["--settings FILE"])?;
    desk.refuses(&["explain", "--pcap", "absent"], 65, &["cannot explain absent"])?;
    desk.refuses(&["explain", "--pcap", "cut"], 65, &["cut", "truncated", "after 5 whole packets"])?;
    desk.refuses(&["explain", "--pcap", "wireless"], 65, &["type", "Ethernet", "tcpdump"])?;
    desk.refuses(&["explain", "--pcap", "notes.txt"], 65, &["neither pcap nor pcapng", "tcpdump"])?;
    desk.refuses(
        &["--settings", "settings.json", "explain", "--pcap", "whole"],
        69,
        &["settings.json", "site"],
    )?;
    desk.refuses(
        &["--settings", "none.json", "explain", "enp2s0"],
        69,
        &["none.json", "log in there", "--pcap"],
    )
}
