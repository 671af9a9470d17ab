use clap::Parser as _;

use super::*;
use crate::cli::node::Node;
use crate::cli::{Cli, Verb};
use crate::deployment::sample;
use crate::settings::{Raw, Settings};

fn options(words: &[&str]) -> AddNode {
    let line = ["meshboot", "node", "add"].iter().chain(words);
    let Verb::Node(Node::Add(options)) = Cli::try_parse_from(line).unwrap().verb else { unreachable!() };
    *options
}

fn asked(words: &[&str]) -> Result<WantedMachine, Failure> {
    wanted(&sample(4), &defaults(), &options(words))
}

fn defaults() -> LibvirtSettings {
    Settings::from_raw(Raw::default()).unwrap().libvirt
}

fn plugged(words: &[&str]) -> Result<Vec<(u16, u8)>, String> {
    let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
    let ends = ends(&sample(4), &words).map_err(|failure| failure.message())?;
    Ok(ends.iter().map(|end| (end.machine.0, end.port)).collect())
}

#[test]
fn a_machine_is_as_the_settings_and_the_options_say() {
    let usual = asked(&[]).unwrap();
    assert_eq!((usual.name.as_str(), usual.memory_mib, usual.ports, usual.cpus), ("node5", 2048, 4, None));
    let words = ["big", "--memory", "4GiB", "--cpus", "2", "--disk-size", "20GiB", "--ports", "8"];
    let big = asked(&[&words[..], &["--label", "size=big", "--taint", "slow:NoExecute"]].concat()).unwrap();
    assert_eq!((big.name.as_str(), big.memory_mib, big.cpus, big.disk), ("big", 4096, Some(2), 20 << 30));
    let own = asked(&["--image", "0123456789abcdef"]).unwrap();
    assert_eq!(own.node.image, Some("0123456789abcdef".parse().unwrap()));
    let old = asked(&["--kubernetes-version", "v1.33.7"]).unwrap();
    assert_eq!(old.node.kubernetes_version, Some("v1.33.7".parse().unwrap()));
    assert_eq!((big.ports, big.node.labels["size"].as_str(), big.node.taints.len()), (8, "big", 1));
}

#[test]
fn what_cannot_be_is_refused() {
    for (words, says) in [
        (vec!["node2"], "`node2` already"),
        (vec!["--memory", "2"], "--memory"),
        (vec!["--ports", "9"], "1 to 8"),
        (vec!["--ports", "0"], "1 to 8"),
        (vec!["--cpus", "none"], "--cpus"),
        (vec!["--label", "a"], "KEY=VALUE"),
        (vec!["--image", "newest"], "--image: `newest` names no images"),
        (vec!["--kubernetes-version", "1.33"], "--kubernetes-version: `1.33` is not a version"),
        (vec!["--label", "kubernetes.io/os=x", "--taint", "x", "--feature-gates", "A"], "3 mistakes"),
        (vec!["--extra-config", "apiserver.v=4"], "kubelet.KEY=VALUE"),
        (vec!["--extra-config", "kubelet.node-ip=::1"], "set by meshboot"),
    ] {
        let said = asked(&words).unwrap_err().message();
        assert!(said.contains(says), "{words:?}: {said}");
    }
    assert!(Cli::try_parse_from(["meshboot", "node", "add", "Node_1"]).is_err());
}

#[test]
fn a_cable_goes_where_it_is_said_or_where_there_are_fewest() {
    assert_eq!(plugged(&[]), Ok(vec![(2, 2)]), "node2 has two cables as node3 and node4, and comes first");
    assert_eq!(plugged(&["node3"]), Ok(vec![(3, 2)]));
    assert_eq!(plugged(&["node3", "node3:3", "seed"]), Ok(vec![(3, 2), (3, 3), (0, 1)]));
    for (words, says) in [
        (vec!["node7"], "no machine `node7`"),
        (vec!["node1:0"], "port 0 of node1 has a cable to seed"),
        (vec!["node1:4"], "its ports are 0 to 3"),
        (vec!["node1:x"], "no port `x`"),
        (vec!["node1", "node1"], "every port of node1"),
        (vec!["node3:2", "node3:2"], "port 2 of node3 has a cable"),
    ] {
        let said = plugged(&words).unwrap_err();
        assert!(said.contains(says), "{words:?}: {said}");
    }
}
