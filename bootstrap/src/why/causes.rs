//! What is usually the matter with a boot that hangs, stage by stage, and what to try.
//!
//! Pure: a boot's steps, what was heard, and the time. The knowledge is that of firmware's own sources and of a bench.

use std::time::Duration;

use mesh::{Boot, LinkStatus, Stage, Step};

/// How long a step may take, counted from the last octet that was sent in it, before it is said to hang. Software
/// emulation is slow: a boot that is only slow shall not be called stuck.
#[must_use]
pub fn patience(stage: Stage) -> Option<Duration> {
    let seconds = match stage {
        Stage::Dark | Stage::Ready => return None,
        // Firmware tries IPv4 and disks first, tens of seconds each.
        Stage::Carrier => 180,
        Stage::Addressed | Stage::Loading | Stage::Root | Stage::Asking => 60,
        Stage::Configured | Stage::Joining => 300,
    };
    Some(Duration::from_secs(seconds))
}

/// Whether nobody boots on the link because a node of this mesh is at its far end already.
#[must_use]
pub fn is_neighbour(status: &LinkStatus, step: &Step) -> bool {
    status.neighbour && step.stage == Stage::Carrier
}

/// For how long a boot has made no step, if that is too long. Times are milliseconds since 1970.
#[must_use]
pub fn hangs(status: &LinkStatus, step: &Step, now: u64) -> Option<Duration> {
    if is_neighbour(status, step) {
        return None;
    }
    let still = Duration::from_millis(now.saturating_sub(step.sent.max(step.at)));
    patience(step.stage).filter(|patience| still > *patience).map(|_| still)
}

/// What to try next, the likeliest first. Nothing for a link that is as it should be.
#[must_use]
pub fn advice(status: &LinkStatus, boot: &Boot, step: &Step) -> Vec<String> {
    let mut advice = Vec::new();
    if !status.faults.is_empty() && !status.forced {
        advice.extend(status.faults.iter().map(ToString::to_string));
        advice.push(format!(
            "if it is right as it is: `meshboot force-link {}` on the machine that has the port",
            status.port
        ));
        return advice;
    }
    if is_neighbour(status, step) {
        return advice;
    }
    let said = |words: &str| step.notes.iter().any(|(_, text)| text.contains(words));
    let lines: &[&str] = match step.stage {
        Stage::Dark => &[
            "is the cable in at both ends, and has the machine power?",
            "some firmware turns ports off while the machine is off: turn it on",
            "a port that is disabled in the firmware's setup has no carrier either",
        ],
        Stage::Carrier => carrier(boot),
        Stage::Addressed => addressed(boot, &said),
        Stage::Loading if said("stopped loading") => &[
            "firmware that stops a transfer is mostly out of memory: give the machine 2 GiB or more",
            "or try its other way of booting over IPv6: HTTP instead of PXE, or PXE instead of HTTP",
        ],
        Stage::Loading if said("fell silent") => &[
            "the far end was turned off, reset itself, or the cable is bad: look at its console",
            "large frames that one end cannot receive stop a transfer as well: set the MTU to 1500",
        ],
        Stage::Loading => &[
            "if the whole file was sent, firmware refuses to start it: turn Secure Boot off",
            "or its kernel started and has no driver for this port: look at the machine's console",
            "or the machine has too little memory for the file: 2 GiB is enough",
        ],
        Stage::Root => &[
            "the root image is kept in memory: give the machine 2 GiB or more",
            "look at the machine's console: an image whose digest is wrong is fetched again, and says so there",
        ],
        Stage::Asking => &[
            "the reason above is what the machine is told; it asks again by itself every few seconds",
            "`meshboot status` says whether the API server answers the node that serves it",
        ],
        Stage::Configured => &[
            "look at the machine's console, or log in: `journalctl -u meshboot-kubelet -u kubeadm-join -u kubelet`",
            "`vtysh -c 'show bgp summary'` on it says whether it has a way to the API server",
        ],
        Stage::Joining => &[
            "`kubectl describe node` says what the kubelet waits for: mostly an image, or the pod network",
            "on the machine: `journalctl -u kubelet`, `crictl ps` or `ctr -n k8s.io containers list`",
        ],
        Stage::Ready => &[],
    };
    advice.extend(lines.iter().map(|line| (*line).to_owned()));
    advice
}

/// A cable carries, and nobody has an address yet.
fn carrier(boot: &Boot) -> &'static [&'static str] {
    let heard = boot.heard;
    if heard.dhcp > 0 {
        return &[
            "it asks for an address and is not answered: the reason above says why",
            "if there is none: a firewall or another DHCPv6 server on this node takes its requests",
        ];
    }
    if heard.solicitations > 0 {
        return &[
            "it looks for a router and not for an address: an operating system runs there, not the network boot",
            "boot it again, and choose the network (UEFI PXE or HTTP over IPv6) in the firmware's boot menu",
        ];
    }
    &[
        "the far end says nothing over IPv6: in its firmware's setup turn on the UEFI network stack and IPv6 boot",
        "put the network before the disks in its boot order, and turn legacy boot (CSM) off",
        "firmware that tries IPv4 first takes half a minute or more for each try: wait for two minutes",
    ]
}

/// The far end has its address, and loads nothing.
fn addressed(boot: &Boot, said: &impl Fn(&str) -> bool) -> &'static [&'static str] {
    if said("names no architecture") {
        return &[
            "it does not say what it is (no option 61): firmware that old boots by its own IPv6 PXE entry only",
        ];
    }
    if said("architecture") {
        return &[
            "this site has no boot file for such a machine: x86-64 with UEFI is what images are made for",
        ];
    }
    if said("no certificate for that yet") {
        return &[
            "a relay has its certificate once it is a member and the API server answers it: `kubectl get csr`",
            "`journalctl -u meshboot-gateway` on the node that serves it says what that waits for",
        ];
    }
    if said("broke off HTTPS") {
        return &[
            "its firmware does not trust this site: enrol auth/boot-ca.der in its setup (TLS server's authority)",
            "firmware compares certificates with its clock: set it in the setup if it is years ahead",
        ];
    }
    if boot.heard.boot_files == 0 {
        return &[
            "it took an address and asked for no boot file (option 59): an operating system runs there",
            "boot it again, and choose the network (UEFI PXE or HTTP over IPv6) in the firmware's boot menu",
        ];
    }
    &[
        "it was offered a boot file and does not fetch it: try its other way of booting, PXE instead of HTTP",
        "many firmwares forbid plain HTTP: allow it in the setup, or take HTTP out of the boot order",
        "`PXE-E16` on its console says that it found the offer wrong: record it with tcpdump and report it",
    ]
}

#[cfg(test)]
mod tests {
    use mesh::{LinkFault, LinkId, Mac, MachineId, Sound, Timeline};

    use super::*;

    fn link() -> LinkId {
        LinkId { near: MachineId::from_mac(Mac([2, 0, 0, 0, 0, 1])), port: 0.try_into().unwrap() }
    }

    fn status() -> LinkStatus {
        LinkStatus::new(link(), "eth0", "2001:db8::11".parse().unwrap(), Stage::Carrier, 0)
    }

    fn timeline(stage: Stage) -> Timeline {
        Timeline::new(link(), "eth0".to_owned(), stage, 0)
    }

    fn first(status: &LinkStatus, timeline: &Timeline) -> String {
        let boot = timeline.boots.back().unwrap();
        advice(status, boot, boot.steps.back().unwrap()).into_iter().next().unwrap_or_default()
    }

    #[test]
    fn who_is_silent_is_told_apart_from_who_asks_the_wrong_thing() {
        let mut timeline = timeline(Stage::Carrier);
        assert!(first(&status(), &timeline).contains("says nothing over IPv6"));
        timeline.hear(Sound::Solicitation);
        assert!(first(&status(), &timeline).contains("looks for a router"));
        timeline.hear(Sound::Dhcp);
        assert!(first(&status(), &timeline).contains("not answered"));
        timeline.enter(Stage::Addressed, 1);
        assert!(first(&status(), &timeline).contains("asked for no boot file"));
        timeline.hear(Sound::BootFile);
        assert!(first(&status(), &timeline).contains("does not fetch it"));
        timeline.note("it asks for a boot file and names no architecture", 2);
        assert!(first(&status(), &timeline).contains("option 61"));
    }

    #[test]
    fn firmware_that_is_to_boot_by_https_lacks_a_certificate_or_trust() {
        let told = |reason: &str| {
            let mut timeline = timeline(Stage::Addressed);
            timeline.note(reason, 1);
            first(&status(), &timeline)
        };
        let reason = netboot_proto::boot::BootRefusal::NoCertificate.to_string();
        assert!(told(&reason).contains("kubectl get csr"));
        assert!(told("the far end broke off HTTPS: TLS alert received").contains("boot-ca.der"));
    }

    #[test]
    fn a_transfer_that_was_stopped_is_out_of_memory_and_one_that_fell_silent_is_not() {
        let mut timeline = timeline(Stage::Loading);
        assert!(first(&status(), &timeline).contains("Secure Boot"));
        timeline.note("the far end fell silent while it loaded node.efi, after 9 octets", 1);
        assert!(first(&status(), &timeline).contains("console"));
        timeline.note("the firmware stopped loading node.efi: out of resources", 1);
        assert!(first(&status(), &timeline).contains("memory"));
    }

    #[test]
    fn a_node_that_came_by_another_cable_is_not_waited_for() {
        let neighbour = LinkStatus { neighbour: true, ..status() };
        let mut timeline = timeline(Stage::Carrier);
        let last = |timeline: &Timeline| timeline.boots.back().unwrap().steps.back().unwrap().clone();
        assert_eq!(
            (first(&neighbour, &timeline), hangs(&neighbour, &last(&timeline), u64::MAX)),
            (String::new(), None)
        );
        timeline.enter(Stage::Loading, 0);
        assert!(hangs(&neighbour, &last(&timeline), u64::MAX).is_some(), "it has begun to boot again");
    }

    #[test]
    fn a_fault_of_the_link_comes_before_everything_and_ends_when_it_is_forced() {
        let mut status = status();
        status.faults = vec![LinkFault::Looped { port: "eth1".to_owned() }];
        let timeline = timeline(Stage::Carrier);
        let boot = timeline.boots.back().unwrap();
        let told = advice(&status, boot, boot.steps.back().unwrap());
        assert!(told[0].contains("eth1") && told[1].contains("meshboot force-link eth0"), "{told:?}");
        status.forced = true;
        assert!(first(&status, &timeline).contains("says nothing over IPv6"));
    }

    #[test]
    fn a_boot_hangs_by_the_last_octet_and_a_ready_node_never_does() {
        let mut timeline = timeline(Stage::Loading);
        let hangs = |timeline: &Timeline, now| hangs(&status(), timeline.boots.back()?.steps.back()?, now);
        assert_eq!(hangs(&timeline, 60_000), None);
        assert_eq!(hangs(&timeline, 61_000), Some(Duration::from_secs(61)));
        timeline.count(1, 50_000);
        assert_eq!(hangs(&timeline, 61_000), None);
        timeline.enter(Stage::Ready, 70_000);
        assert_eq!(hangs(&timeline, u64::MAX), None);
        for stage in
            [Stage::Carrier, Stage::Addressed, Stage::Root, Stage::Asking, Stage::Configured, Stage::Joining]
        {
            timeline.enter(stage, 0);
            assert!(!first(&status(), &timeline).is_empty() && patience(stage).is_some());
        }
    }
}
