use super::*;

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

fn asked(username: &str, groups: &[&str], usages: &[&str]) -> Result<NodeName, Denial> {
    let (groups, usages) = (words(groups), words(usages));
    asking_node(&Request { signer: BOOT_SIGNER, username, groups: &groups, usages: &usages, pem: b"" })
}

#[test]
fn a_node_asks_for_itself() {
    let node = asked("system:node:node4", &["system:nodes", "system:authenticated"], &USAGES);
    assert_eq!(node, Ok("node4".parse().unwrap()));
    let stranger = |name: &str| Err(Denial::NotANode(name.to_owned()));
    assert_eq!(asked("system:node:node4", &["system:authenticated"], &USAGES), stranger("system:node:node4"));
    assert_eq!(asked("kubernetes-admin", &["system:masters"], &USAGES), stranger("kubernetes-admin"));
    assert_eq!(asked("system:node:", &["system:nodes"], &USAGES), stranger("system:node:"));
    assert_eq!(asked("system:node:a/b", &["system:nodes"], &USAGES), stranger("system:node:a/b"));
}

#[test]
fn it_is_no_certificate_for_anything_else() {
    for usages in [&["client auth"][..], &USAGES[..2], &[&USAGES[..], &["client auth"]].concat(), &[]] {
        let asked = asked("system:node:node4", &["system:nodes"], usages);
        assert_eq!(asked, Err(Denial::OtherUsages(usages.join(", "))));
    }
}
