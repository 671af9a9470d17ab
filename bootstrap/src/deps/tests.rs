use super::*;

fn bookworm() -> Distribution {
    Distribution::parse("ID=debian\nVERSION_CODENAME=bookworm\nNAME=\"Debian GNU/Linux\"\n")
}

fn missing(package: &str, from_backports: bool) -> Missing {
    Missing { what: package.to_owned(), package: package.to_owned(), from_backports }
}

#[test]
fn distributions_are_known_by_their_own_file() {
    assert_eq!(bookworm().codename, "bookworm");
    let mint = Distribution::parse("ID=linuxmint\nID_LIKE=\"ubuntu debian\"\nVERSION_CODENAME=wilma\n");
    assert_eq!(mint.like, ["ubuntu", "debian"]);
    assert!(!Distribution::parse("ID=fedora\n").has_apt());
    assert_eq!(Distribution::parse(""), Distribution::default());
}

#[test]
fn packages_are_named_once_and_backports_apart() {
    let all = [
        missing("libvirt-daemon-system", false),
        missing("libvirt-daemon-system", false),
        missing("qemu-system-x86", true),
        missing("ovmf", false),
    ];
    assert_eq!(
        commands(&all, &bookworm()),
        [
            "apt-get update",
            "apt-get install --no-install-recommends libvirt-daemon-system ovmf",
            "apt-get install --no-install-recommends -t bookworm-backports qemu-system-x86",
        ]
    );
}

#[test]
fn the_source_of_backports_is_the_archive_in_use() {
    let source = backports_source(&bookworm(), "http://deb.example.net/debian");
    assert!(source.contains("URIs: http://deb.example.net/debian\n"));
    assert!(source.contains("Suites: bookworm-backports\n"));
}

#[tokio::test]
async fn without_leave_nothing_is_installed_and_the_command_is_told() {
    if !Distribution::of_this_computer().has_apt() {
        return;
    }
    let reporter = Reporter::new(crate::progress::Output::Text);
    let failure = provide(&[missing("ovmf", false)], false, &reporter).await.unwrap_err();
    assert_eq!(failure.code, Code::Unavailable);
    assert!(failure.message().contains("lacks ovmf"));
    let next = failure.next.unwrap();
    assert!(next.contains("--install-deps") && next.contains("apt-get install"), "{next}");
}
