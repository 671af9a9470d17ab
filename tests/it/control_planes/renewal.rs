//! A control plane's certificates are renewed while another one serves: by the script that nodes have, with a real kubeadm,
//! for a real etcd and a real API server.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use anyhow::{Context as _, Result, ensure};
use ignition::Cni;

use super::asking::Asked;
use super::site::{CONTROL_PLANES, KUBELET, KUBERNETES, OWN, SCRIPTS, Site};
use crate::routing::truth::Place;

/// The node whose certificates end.
const NODE: Place = CONTROL_PLANES[1].1;
/// How many answers there are before.
const BEFORE: usize = 10;
/// A question that is asked when a route changes comes to a server that does not know it.
const UNDER_WAY: usize = 1;
/// Makes what kubeadm has signed end in ten days.
const SHORTEN: &str = "
cd /etc/kubernetes/pki
for pair in ca:apiserver ca:apiserver-kubelet-client front-proxy-ca:front-proxy-client etcd/ca:apiserver-etcd-client \\
    etcd/ca:etcd/server etcd/ca:etcd/peer etcd/ca:etcd/healthcheck-client; do
    ca=${pair%%:*} name=${pair#*:}
    openssl x509 -x509toreq -in $name.crt -signkey $name.key -copy_extensions copy |
        openssl x509 -req -CA $ca.crt -CAkey $ca.key -copy_extensions copy -days 10 -out $name.new
    mv $name.new $name.crt
done";
/// The certificate that etcd shows.
const SHOWN: &str = "
cd /etc/kubernetes/pki/etcd
openssl s_client -connect '[::1]:2379' -CAfile ca.crt -verify_return_error -cert healthcheck-client.crt \\
    -key healthcheck-client.key </dev/null | openssl x509 -noout -serial -checkend 8640000";

#[test]
#[ignore = "needs Kubernetes: MESHBOOT_TEST_KUBERNETES names a folder of binaries"]
fn certificates_are_renewed_while_others_serve() -> Result<()> {
    let mut site = Site::new()?;
    let both = &CONTROL_PLANES[..2];
    site.found()?;
    site.join(both[1].0, NODE)?;
    // What nobody runs here is renewed as well.
    site.phase(NODE, "kubeconfig all")?;
    site.phase(NODE, "control-plane all")?;
    bring_script(&site)?;
    site.wait_until_whole(both)?;
    site.shell(NODE, SHORTEN)?;
    let shown = site.shell(NODE, SHOWN).unwrap_err().to_string();
    ensure!(shown.contains("will expire"), "{shown}");

    let asking = site.ask()?;
    site.wait("who asks is answered", |_| Ok(asking.answers() >= BEFORE))?;
    let said = site.shell(NODE, &format!("{SCRIPTS}/kubeadm-renew"))?;
    ensure!(said.contains("kubeadm renews the certificates"), "{said}");
    let kind = "openssl x509 -noout -text -in /etc/kubernetes/pki/apiserver.crt";
    ensure!(site.shell(NODE, kind)?.contains("prime256v1"), "RSA keys cost minutes on a slow machine");
    // etcd has not been started anew, and the kubelet would the API server.
    let shown = site.shell(NODE, SHOWN)?;
    ensure!(shown.contains("will not expire"), "{shown}");
    site.end_server(NODE)?;
    site.start_server(NODE)?;
    site.wait_until_whole(both)?;
    let Asked { answers, failed, .. } = asking.stop()?;
    ensure!(answers > BEFORE && failed <= UNDER_WAY, "{answers} answers, {failed} failed");

    // Its users are known, its kubelet is one of them, and it is one of the members.
    let own = "kubectl --request-timeout=10s --kubeconfig";
    site.shell(NODE, &format!("{own} {KUBERNETES}/admin.conf get namespaces"))?;
    let subject = site
        .shell(NODE, &format!("openssl x509 -noout -subject -in {KUBELET}/pki/kubelet-client-current.pem"))?;
    ensure!(subject.contains("system:nodes") && subject.contains("system:node:node1"), "{subject}");
    site.power_off(0)?;
    site.power_on(0)?;
    site.wait_until_whole(both)?;

    let said = site.shell(NODE, &format!("{SCRIPTS}/kubeadm-renew"))?;
    ensure!(said.is_empty(), "there is nothing to do: {said}");
    Ok(())
}

/// As Ignition brings it. Whom the certificates name stands in them, so that the plan may be another machine's.
fn bring_script(site: &Site) -> Result<()> {
    let plan = crate::ignition::node(&site.plan.kubernetes.to_string(), Cni::Routed);
    let tree = ignition::render::tree(&plan)?;
    for (folder, name) in [(SCRIPTS, "kubeadm-renew"), (OWN, "renewal.yaml")] {
        let file = tree.files.get(&format!("{folder}/{name}")).context("it is rendered")?;
        let path = site.path(NODE, folder).join(name);
        fs::write(&path, &file.contents)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(file.mode))?;
    }
    fs::write(site.path(NODE, KUBERNETES).join("meshboot-member"), "name node1\n")?;
    fs::create_dir_all(site.path(NODE, KUBELET).join("pki"))?;
    // Nothing of the machine's is a service here.
    let systemctl = site.programs.path().join("systemctl");
    fs::write(&systemctl, "#!/bin/sh\n")?;
    Ok(fs::set_permissions(&systemctl, fs::Permissions::from_mode(0o755))?)
}
