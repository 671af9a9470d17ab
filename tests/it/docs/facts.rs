//! Figures, names and messages in pages that people wrote are those of the program.

use std::fs;
use std::net::Ipv6Addr;
use std::path::{Path, PathBuf};

use bootstrap::exit::Code;
use hardware::profile::{GENERIC, NUC};
use mesh::plan::{APISERVER_PORT, ETCD_PORT};
use mesh::{AddressPlan, FaultKind, Mac, PortIndex, Stage};
use tests::book::{Page, listed, root};

fn page(name: &str) -> Page {
    Page::read(&Path::new("docs/src").join(name))
}

/// The cells of a page's tables, row by row, without what would make them code.
fn rows(page: &Page) -> Vec<Vec<String>> {
    let rows = page.text.lines().filter_map(|line| line.trim().strip_prefix('|')?.strip_suffix('|'));
    rows.map(|row| row.split(" | ").map(|cell| cell.trim().replace('`', "")).collect()).collect()
}

#[test]
fn every_exit_code_has_a_row_and_means_what_the_page_says() {
    let rows: Vec<Vec<String>> = rows(&page("exit-codes.md"))
        .into_iter()
        .filter(|row| row.first().is_some_and(|cell| cell.parse::<u8>().is_ok_and(|code| code != 0)))
        .collect();
    let wanted: Vec<Vec<String>> = Code::ALL
        .iter()
        .map(|code| vec![code.number().to_string(), code.name().to_owned(), code.meaning().to_owned()])
        .collect();
    let told: Vec<Vec<String>> = rows.iter().map(|row| row[..3].to_vec()).collect();
    assert_eq!(told, wanted);
    assert!(Code::ALL.is_sorted_by_key(|code| code.number()));
}

#[test]
fn the_worked_example_is_what_the_plan_gives() {
    let page = page("addresses.md");
    let plan = AddressPlan::default();
    let mac: Mac = "1c:69:7a:0b:4c:2e".parse().unwrap();
    let number = plan.preferred_number(mac);
    let block = plan.block(number).unwrap();
    let link = |port: u8| block.link(PortIndex::try_from(port).unwrap());
    let has = |text: String| {
        assert!(page.text.contains(&format!("`{text}`")) || page.text.contains(&text), "{text}")
    };
    has(mac.to_string());
    has(format!("0x{:x}", number.0));
    has(format!("0x{:x}", number.0 << 9));
    has(format!("**`{block}`**"));
    let rows = rows(&page);
    let row = |what: &str, address: String| {
        let row =
            rows.iter().find(|row| row[0].starts_with(what)).unwrap_or_else(|| panic!("no row of {what}"));
        assert_eq!(row[1], address, "{what}");
    };
    row("the node's IP", block.vip().to_string());
    row("the cable at its port 0", link(0).near().to_string());
    row("the machine at the other end", link(0).far().to_string());
    row("the cable at its port 1", link(1).near().to_string());
    row("its pods", block.pods().to_string());
}

#[test]
fn anycast_addresses_are_those_of_the_plan() {
    let plan = AddressPlan::default();
    let rows = rows(&page("addresses.md"));
    let row = |what: &str| {
        rows.iter().find(|row| row[0].starts_with(what)).unwrap_or_else(|| panic!("no {what}")).clone()
    };
    let told = |what: &str, address: Ipv6Addr, port: u16| {
        let row = row(what);
        assert_eq!((&row[1], &row[2]), (&address.to_string(), &port.to_string()), "{what}");
    };
    told("API server", plan.apiserver, APISERVER_PORT);
    told("etcd", plan.etcd, ETCD_PORT);
    told("boot", plan.boot, 80);
    for registry in ["docker.io", "quay.io", "gcr.io"] {
        let mirror = plan.mirror(registry).unwrap();
        told(&format!("mirror of {registry}"), mirror.address, mirror.port);
    }
    let text = page("addresses.md").text;
    for net in [plan.machines, plan.services] {
        assert!(text.contains(&net.to_string()), "{net}");
    }
}

#[test]
fn firmware_is_told_what_the_profiles_say() {
    let text = page("metal.md").text;
    for profile in [NUC, GENERIC] {
        assert!(text.contains(profile.title), "{}", profile.title);
        for line in profile.firmware {
            assert!(text.contains(&format!("\n- {line}\n")), "{line}");
        }
        assert!(
            text.contains(profile.mesh_ports) && text.contains(&profile.drivers.join(", ")),
            "{}",
            profile.name
        );
        assert!(text.contains(&format!("| {} GiB |", profile.node_memory_mib / 1024)), "{}", profile.name);
    }
}

#[test]
fn every_stage_and_every_fault_of_a_link_is_explained() {
    let rows = rows(&page("troubleshooting.md"));
    let names =
        Stage::ALL.iter().map(|stage| stage.name()).chain(FaultKind::ALL.iter().map(|kind| kind.name()));
    for name in names {
        assert!(rows.iter().any(|row| row[0] == name), "no row explains {name}");
    }
}

/// What a timeline looks like is what its own test has it look like.
#[test]
fn the_timeline_that_is_shown_is_one_that_is_tested() {
    let tested = Page::read(Path::new("bootstrap/src/timeline/text/tests.rs")).text;
    let page = page("timeline.md");
    let shown = page.blocks().into_iter().find(|block| block.language() == "text").unwrap();
    for line in shown.text.lines() {
        assert!(tested.contains(line), "nobody tests `{line}`");
    }
}

/// Words in the first column of the page's tables, or at the head of one of its items, are said by the program.
#[test]
fn what_is_quoted_is_said_somewhere() {
    let sources = sources();
    let page = page("troubleshooting.md");
    let mut quoted = 0;
    for span in page.spans() {
        // Commands, options, names and paths are looked at elsewhere; a message is a sentence.
        let is_command =
            ["meshboot ", "./", "-", "kubectl ", "journalctl ", "kubeadm ", "vtysh ", "ctr ", "sysctl "]
                .iter()
                .any(|start| span.it.starts_with(start));
        if is_command || !span.it.contains(' ') {
            continue;
        }
        for part in span.it.split('…').map(|part| part.trim().trim_matches(',')).filter(|part| part.len() > 3)
        {
            assert!(sources.contains(part), "{}:{}: nobody says `{part}`", page.path.display(), span.line);
            quoted += 1;
        }
    }
    assert!(quoted > 60, "{quoted} quotations");
}

/// All that the rooms could say: their sources, with text that goes on in the next line joined.
fn sources() -> String {
    let mut files = Vec::new();
    for room in [
        "bootstrap/src",
        "hardware/src",
        "ignition/src",
        "images/src",
        "mesh/src",
        "netboot/proto/src",
        "netboot/server/src",
    ] {
        collect(Path::new(room), &mut files);
    }
    let texts = files.iter().filter_map(|path| fs::read_to_string(root().join(path)).ok());
    let mut text = String::new();
    for file in texts {
        let mut lines = file.lines();
        while let Some(line) = lines.next() {
            let mut line = line.to_owned();
            while let Some(begun) = line.strip_suffix('\\') {
                line = format!("{begun}{}", lines.next().unwrap_or_default().trim_start());
            }
            text.push_str(&line);
            text.push('\n');
        }
    }
    text
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    for path in listed(folder) {
        if root().join(&path).is_dir() {
            collect(&path, files);
        } else {
            files.push(path);
        }
    }
}
