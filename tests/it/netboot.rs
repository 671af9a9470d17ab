//! The netboot servers between two machines joined by a cable, with the clients that people use: rdisc6,
//! dhclient, tftp-hpa and curl. Network namespaces are the machines; the server is a process of its own.

mod abuse;
mod clients;
mod explained;
mod garbage;
mod https;
mod judged;
mod lab;
mod own;
mod served;
mod uefi;

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use mesh::Stage;

use lab::{BOOT, FAR, Lab, NEAR};

const MIB: usize = 1024 * 1024;

#[test]
fn a_router_advertisement_says_what_firmware_needs() -> Result<()> {
    let lab = Lab::start("nbra")?;
    lab.serve()?;
    let heard = lab.far.run("rdisc6", &["-1", "-r", "5", "far0"])?;
    for line in [
        "Stateful address conf.    :          Yes",
        "Stateful other conf.      :          Yes",
        "Router preference         :       medium",
        "Router lifetime           :         1800 (0x00000708) seconds",
        "Prefix                   : 2001:db8::10/126",
        "On-link                 :          Yes",
        "Autonomous address conf.:           No",
        "MTU                      :         1500 bytes",
        "Source link-layer address: 02:00:00:00:00:01",
        "Recursive DNS server     : 2001:db8::53",
        "DNS search list          : mesh.example",
    ] {
        ensure!(heard.contains(line), "no `{line}` in\n{heard}");
    }
    // The kernel at the far end takes the near end for its router, and does not make itself an address.
    lab.wait_for("a default route", |lab| {
        Ok(lab.far.run("ip", &["-6", "route"])?.contains("default via fe80::"))
    })?;
    ensure!(!lab.far.run("ip", &["-6", "addr"])?.contains("2001:db8"));
    Ok(())
}

#[test]
fn an_unmodified_client_gets_the_links_address_and_a_url_and_the_ledger_was_told_first() -> Result<()> {
    let lab = Lab::start("nbdhcp")?;
    lab.serve()?;
    let lease = lab.dhclient("first", &["7", "PXEClient:Arch:00007:UNDI:003000"])?;
    ensure!(lease.address == FAR, "{lease:?}");
    ensure!(lease.url == format!("tftp://[{NEAR}]/node.efi"), "{lease:?}");
    ensure!(lab.ledger()?.len() == 1, "{:?}", lab.ledger()?);
    ensure!(lab.ledger()?[0].contains("02:00:00:00:00:02"));
    // Others on the same cable: another DUID, another IAID, another class; one address, one entry.
    let lease = lab.dhclient("second", &["16", "HTTPClient:Arch:00016:UNDI:003000"])?;
    ensure!(lease.address == FAR && lease.url == format!("http://[{NEAR}]/boot/node.efi"), "{lease:?}");
    ensure!(
        lease.vendor_class == "0:0:1:57:0:a:48:54:54:50:43:6c:69:65:6e:74",
        "HTTPClient of 343: {lease:?}"
    );
    let lease = lab.dhclient("third", &["11", "PXEClient:Arch:00011:UNDI:003000"])?;
    ensure!(lease.address == FAR && lease.url.is_empty(), "{lease:?}");
    ensure!(lab.ledger()?.len() == 1);
    let status = lab.status()?;
    ensure!(status.stage == Stage::Addressed, "{status:?}");
    ensure!(status.reason.is_some_and(|reason| reason.contains("arm64 (architecture number 11)")));
    Ok(())
}

#[test]
fn the_router_is_advertised_before_the_first_answer() -> Result<()> {
    let lab = Lab::start("nbfirst")?;
    lab.serve()?;
    lab.wait_for_stage(Stage::Carrier)?;
    // Whether or not all nodes have just been told, the client hears one between its message and the answer.
    let before = fs::read_to_string(lab.path("log"))?.len();
    ensure!(lab.dhclient("first", &["7", "PXEClient:Arch:00007:UNDI:003000"])?.address == FAR);
    let log = fs::read_to_string(lab.path("log"))?.split_off(before);
    let answer = log.find("DHCPv6 answer").context("no answer")?;
    let advertised = log.find("router advertisement").context("no advertisement")?;
    ensure!(advertised < answer, "{log}");
    Ok(())
}

#[test]
fn a_client_whose_address_says_nothing_of_its_station_is_looked_for() -> Result<()> {
    let lab = Lab::start("nbprobe")?;
    lab.far.run("ip", &["addr", "flush", "dev", "far0", "scope", "link"])?;
    lab.far.run("ip", &["addr", "add", "fe80::99/64", "dev", "far0", "nodad"])?;
    lab.serve()?;
    ensure!(lab.dhclient("opaque", &[])?.address == FAR);
    ensure!(lab.ledger()?[0].contains("02:00:00:00:00:02"), "{:?}", lab.ledger()?);
    Ok(())
}

#[test]
fn a_boot_goes_through_its_stages() -> Result<()> {
    let lab = Lab::start("nbboot")?;
    let file = lab.content("node.efi", 3 * MIB + 77)?;
    lab.serve()?;
    lab.wait_for_stage(Stage::Carrier)?;
    lab.configure_far()?;
    lab.wait_for_stage(Stage::Addressed)?;

    // Lockstep and windows, at the near address and at the link-local one that the firmware may use as well.
    lab.far.run("tftp", &["-m", "binary", NEAR, "-c", "get", "/node.efi", &lab.path("hpa")])?;
    ensure!(fs::read(lab.path("hpa"))? == file);
    lab.wait_for_stage(Stage::Loading)?;
    let url = format!("tftp://[{NEAR}]/node.efi");
    lab.far.run("curl", &["-sSf", "--tftp-blksize", "1428", "-o", &lab.path("curl"), &url])?;
    ensure!(fs::read(lab.path("curl"))? == file);
    let url = format!("tftp://[{}]/node.efi", lab.near_link_local());
    lab.far.run("curl", &["-sSf", "--interface", "far0", "-o", &lab.path("fe80"), &url])?;
    ensure!(fs::read(lab.path("fe80"))? == file);
    let missing = lab.far.run("curl", &["-sS", &format!("tftp://[{NEAR}]/other.efi")]);
    ensure!(missing.is_err_and(|error| format!("{error:#}").contains("exit status: 68")));
    // A request to everybody is nobody's.
    let everybody = ["-sS", "-m", "1", "tftp://[ff02::1%25far0]/other.efi"];
    let silence = lab.far.run("curl", &everybody);
    ensure!(silence.is_err_and(|error| format!("{error:#}").contains("exit status: 28")));

    // The root image, from "my neighbour".
    let root = lab.content("root", 5 * MIB)?;
    let url = format!("http://[{BOOT}]/artefacts/{}", served::digest("root"));
    lab.far.run("curl", &["-sSf", "-o", &lab.path("got"), &url])?;
    ensure!(fs::read(lab.path("got"))? == root);
    lab.wait_for_stage(Stage::Root)?;
    let sent = u64::try_from(3 * file.len() + root.len())?;
    lab.wait_for("every octet's count", |lab| Ok(lab.status()?.bytes == sent))?;

    // Not ready is 503 with a reason, and ready is a configuration.
    let url =
        format!("http://[{BOOT}]/ignition?uuid=&port=enp1s0,02:00:00:00:00:02&port=enp2s0,02:00:00:00:00:03");
    let answer = lab.far.run("curl", &["-sS", "-i", &url])?;
    ensure!(answer.starts_with("HTTP/1.1 503") && answer.contains("Retry-After: 2"), "{answer}");
    ensure!(answer.contains("the ledger is away"), "{answer}");
    lab.wait_for_stage(Stage::Asking)?;
    ensure!(lab.status()?.reason.as_deref() == Some("the ledger is away"));
    fs::write(lab.path("ignition"), "ready")?;
    let answer = lab.far.run("curl", &["-sSf", &url])?;
    ensure!(
        answer.contains("enp2s0,02:00:00:00:00:03") && answer.contains("far=02:00:00:00:00:02"),
        "{answer}"
    );
    lab.wait_for_stage(Stage::Configured)
}

#[test]
fn what_is_counted_is_told_on_the_machines_own_address_and_to_nobody_who_boots() -> Result<()> {
    let lab = Lab::start("nbcount")?;
    lab.near.run("ip", &["addr", "add", "2001:db8::/128", "dev", "lo"])?;
    let file = lab.content("node.efi", MIB)?;
    lab.serve()?;
    let lease = lab.dhclient("first", &["16", "HTTPClient:Arch:00016:UNDI:003000"])?;
    lab.configure_far()?;
    lab.far.run("curl", &["-sSf", "-o", &lab.path("got"), &lease.url])?;
    lab.wait_for("every octet's count", |lab| Ok(lab.status()?.bytes == file.len() as u64))?;
    let url = "http://[2001:db8::]:8047/metrics";
    let told = lab.near.run("curl", &["-sSf", "-i", url])?;
    ensure!(told.to_lowercase().contains("content-type: application/openmetrics-text"), "{told}");
    for line in [
        "meshboot_boots_total{port=\"near0\"} 1".to_owned(),
        format!("meshboot_sent_bytes_total{{port=\"near0\",stage=\"loading\"}} {}", file.len()),
        "meshboot_link_fault{port=\"near0\",fault=\"two-machines\"} 0".to_owned(),
    ] {
        ensure!(told.lines().any(|known| known == line), "no `{line}` in\n{told}");
    }
    ensure!(
        told.contains("meshboot_dhcp_answer_seconds_count{port=\"near0\",message=\"Request\"}"),
        "{told}"
    );
    // The same page has the steps of the boot.
    let timelines = lab.near.run("curl", &["-sSf", "http://[2001:db8::]:8047/timelines"])?;
    let timelines: Vec<mesh::Timeline> = serde_json::from_str(&timelines)?;
    let boot = timelines[0].boots.back().context("no boot")?;
    let loading = boot.steps.back().context("no step")?;
    ensure!((loading.stage, loading.bytes) == (Stage::Loading, file.len() as u64), "{boot:?}");
    ensure!(boot.heard.boot_files > 0 && boot.heard.dhcp >= boot.heard.boot_files, "{boot:?}");
    // The link's own addresses have none of it.
    let own = format!("http://[{NEAR}]:8047/metrics");
    ensure!(lab.far.run("curl", &["-sS", "-m", "5", &own]).is_err());
    let http = lab.far.run(
        "curl",
        &["-sS", "-o", "/dev/null", "-w", "%{http_code}", &format!("http://[{NEAR}]/metrics")],
    )?;
    ensure!(http == "404", "{http}");
    Ok(())
}

#[test]
fn http_is_what_firmware_and_resuming_clients_expect() -> Result<()> {
    let lab = Lab::start("nbhttp")?;
    let file = lab.content("node.efi", MIB + 5)?;
    lab.serve()?;
    lab.configure_far()?;
    let url = format!("http://[{NEAR}]/boot/node.efi");
    let curl = |args: &[&str]| lab.far.run("curl", args);
    let head = curl(&["-sS", "-I", &url])?.to_lowercase();
    ensure!(head.starts_with("http/1.1 200"), "{head}");
    ensure!(head.contains("\r\ncontent-type: application/efi\r\n"), "{head}");
    ensure!(head.contains(&format!("\r\ncontent-length: {}\r\n", file.len())), "{head}");
    ensure!(!head.contains("transfer-encoding"), "{head}");
    let tag = format!("\"{}\"", served::digest("node.efi"));
    ensure!(head.contains(&format!("\r\netag: {tag}\r\n")), "{head}");
    // HEAD and GET on one connection.
    let both = curl(&["-sSv", "--head", &url, "--next", "-sSv", "-o", &lab.path("got"), &url]);
    ensure!(both.is_ok() && fs::read(lab.path("got"))? == file);
    // A part, under the condition that it is a part of the same file.
    let part = ["-sS", "-H", "Range: bytes=1000-1999", "-o", &lab.path("part"), "-w", "%{http_code}"];
    let same = format!("If-Match: {tag}");
    ensure!(curl(&[&part[..], &["-H", &same, &url]].concat())? == "206");
    ensure!(fs::read(lab.path("part"))? == file[1000..2000]);
    ensure!(curl(&[&part[..], &["-H", "If-Match: \"0\"", &url]].concat())? == "412");
    ensure!(curl(&[&part[..], &["-H", "If-Range: \"0\"", &url]].concat())? == "200");
    let status = |extra: &[&str]| curl(&[&["-sS", "-o", "/dev/null", "-w", "%{http_code}"], extra].concat());
    ensure!(status(&["-H", &format!("If-None-Match: {tag}"), &url])? == "304");
    ensure!(status(&["-H", "Range: bytes=9999999-", &url])? == "416");
    // Nothing else is there.
    for path in
        ["", "boot", "boot/", "boot/../node.efi", "boot/%2e%2e/x", "artefacts/", "artefacts/00", "metrics"]
    {
        let url = format!("http://[{NEAR}]/{path}");
        ensure!(status(&["--path-as-is", &url])? == "404", "{path}");
    }
    ensure!(status(&["-X", "POST", "-d", "x", &url])? == "405");
    ensure!(status(&["-I", &format!("http://[{NEAR}]/ignition")])? == "405");
    ensure!(status(&[&format!("http://[{NEAR}]/ignition?port=x")])? == "400");
    let huge = format!("X-Huge: {}", "a".repeat(40_000));
    ensure!(status(&["-H", &huge, &url]).is_ok_and(|code| code == "431"));
    // Who is behind the far end has another neighbour.
    lab.far.run("ip", &["addr", "add", "2001:db8:9::9/128", "dev", "far0", "nodad"])?;
    lab.near.run("ip", &["route", "add", "2001:db8:9::9/128", "dev", "near0"])?;
    let behind = ["--interface", "2001:db8:9::9"];
    let ignition = format!("http://[{NEAR}]/ignition?port=eth0,02:00:00:00:00:02");
    ensure!(status(&[&behind[..], &[&ignition]].concat())? == "403");
    Ok(())
}

#[test]
fn a_ledger_that_is_away_stops_new_links_and_not_old_ones() -> Result<()> {
    let lab = Lab::start("nbaway")?;
    fs::write(lab.path("away"), "")?;
    lab.serve()?;
    let started = lab.start_dhclient("waiting", &[])?;
    lab.wait_for("a reason", |lab| {
        Ok(lab.status()?.reason.is_some_and(|reason| reason.contains("the store is away")))
    })?;
    ensure!(lab.ledger()?.is_empty());
    fs::remove_file(lab.path("away"))?;
    ensure!(started.lease()?.address == FAR, "the client's own retry was answered");
    ensure!(lab.ledger()?.len() == 1);

    fs::write(lab.path("away"), "")?;
    ensure!(lab.dhclient("known", &[])?.address == FAR);
    lab.restart()?;
    ensure!(lab.dhclient("after a restart", &[])?.address == FAR);
    ensure!(lab.ledger()?.len() == 1);
    Ok(())
}

#[test]
fn a_cable_that_is_pulled_and_put_back_starts_a_new_boot() -> Result<()> {
    let lab = Lab::start("nbcable")?;
    lab.serve()?;
    lab.configure_far()?;
    lab.wait_for_stage(Stage::Addressed)?;
    lab.far.run("ip", &["link", "set", "far0", "down"])?;
    lab.wait_for_stage(Stage::Dark)?;
    lab.far.run("ip", &["link", "set", "far0", "up"])?;
    lab.wait_for_stage(Stage::Carrier)?;
    // The first advertisement comes by itself.
    lab.wait_for("a default route", |lab| {
        Ok(lab.far.run("ip", &["-6", "route"])?.contains("default via fe80::"))
    })?;
    ensure!(lab.dhclient("again", &[])?.address == FAR);
    ensure!(lab.ledger()?.len() == 1);
    // A port that goes and comes, as one on USB.
    lab.near.run("ip", &["link", "del", "near0"])?;
    lab.wait_for("the port's end", |lab| Ok(lab.statuses()?.is_empty()))?;
    lab.plug()?;
    lab.wait_for_stage(Stage::Carrier)?;
    ensure!(lab.dhclient("once more", &[])?.address == FAR);
    Ok(())
}

#[test]
fn a_server_that_is_killed_and_started_again_ends_what_was_begun() -> Result<()> {
    let lab = Lab::start("nbkill")?;
    let root = lab.content("root", 24 * MIB)?;
    lab.serve()?;
    lab.configure_far()?;
    let url = format!("http://[{BOOT}]/artefacts/{}", served::digest("root"));
    let out = lab.path("got");
    let fetch = lab.far.network()?.spawn("fetch", {
        let (url, out) = (url.clone(), out.clone());
        move || {
            let resumed = [
                "-sS",
                "-C",
                "-",
                "--retry",
                "20",
                "--retry-delay",
                "1",
                "--retry-all-errors",
                "--limit-rate",
                "8M",
            ];
            std::process::Command::new("curl").args(resumed).args(["-o", &out, &url]).status()
        }
    })?;
    lab.wait_for("a part of the image", |lab| {
        Ok(fs::metadata(lab.path("got")).is_ok_and(|file| file.len() > MIB as u64))
    })?;
    lab.restart()?;
    let status = fetch.join().ok().context("the fetching thread panicked")???;
    ensure!(status.success(), "curl: {status}");
    ensure!(fs::read(out)? == root);
    ensure!(lab.ledger()?.len() == 1, "the far end is the one that was known");
    Ok(())
}

#[test]
fn a_last_word_withdraws_the_router_and_the_boot_address() -> Result<()> {
    let lab = Lab::start("nblast")?;
    lab.serve()?;
    lab.wait_for("a default route", |lab| {
        Ok(lab.far.run("ip", &["-6", "route"])?.contains("default via fe80::"))
    })?;
    ensure!(lab.near.run("ip", &["-6", "addr", "show", "dev", "lo"])?.contains(BOOT));
    lab.stop()?;
    lab.wait_for("no default route", |lab| {
        Ok(!lab.far.run("ip", &["-6", "route"])?.contains("default via fe80::"))
    })?;
    ensure!(!lab.near.run("ip", &["-6", "addr", "show", "dev", "lo"])?.contains(BOOT));
    Ok(())
}

#[test]
fn three_capabilities_and_little_memory_are_enough_for_eight_ports() -> Result<()> {
    let lab = Lab::start("nbeight")?;
    let file = lab.content("node.efi", 4 * MIB)?;
    for port in 1..8 {
        let (near, far) = (format!("near{port}"), format!("far{port}"));
        lab.plug_as(&near, &far, port)?;
    }
    lab.serve_with(&[
        "setpriv",
        "--bounding-set=-all,+net_admin,+net_raw,+net_bind_service",
        "--inh-caps=-all,+net_admin,+net_raw,+net_bind_service",
    ])?;
    lab.wait_for("eight links", |lab| {
        Ok(lab.statuses()?.iter().filter(|status| status.stage == Stage::Carrier).count() == 8)
    })?;
    lab.configure_far()?;
    let begun = Instant::now();
    let url = format!("http://[{NEAR}]/boot/node.efi");
    let parallel: Vec<_> = (0..20)
        .map(|_| {
            let url = url.clone();
            lab.far.network()?.spawn("fetch", move || {
                std::process::Command::new("curl").args(["-sSf", &url]).output().map(|output| output.stdout)
            })
        })
        .collect::<Result<_>>()?;
    for thread in parallel {
        ensure!(thread.join().ok().context("the fetching thread panicked")??? == file);
    }
    ensure!(begun.elapsed() < Duration::from_secs(30));
    let resident = lab.resident_kib()?;
    ensure!(resident < 64 * 1024, "{resident} KiB");
    Ok(())
}
