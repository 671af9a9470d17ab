use std::path::Path;

use super::*;

fn from_toml(text: &str) -> Result<Settings, ConfigErrors> {
    Settings::from_raw(Raw::from_toml(text, Path::new("site.toml")))
}

#[test]
fn nothing_given_is_kubermeshs_plan_and_the_promised_sizes() {
    let settings = from_toml("").unwrap();
    assert_eq!(settings.addresses, AddressPlan::default());
    assert_eq!((settings.libvirt.seed_memory_mib, settings.libvirt.memory_mib), (3072, 2048));
    assert_eq!(settings.libvirt.topology, Shape::Grid);
    assert_eq!(settings.image.kubernetes, Source::Auto);
    assert_eq!(settings.image.kubernetes_server, images::kubernetes::upstream::BASE_URL);
    assert_eq!(settings.cni, Cni::Routed);
}

#[test]
fn the_example_says_nothing_new_and_with_all_its_lines_it_is_good() {
    let example = example();
    assert_eq!(from_toml(&example).unwrap(), from_toml("").unwrap());
    let live: String = example
        .lines()
        .map(|line| line.strip_prefix('#').filter(|rest| !rest.starts_with(' ')).unwrap_or(line))
        .map(|line| format!("{line}\n"))
        .collect();
    let settings = from_toml(&live).unwrap();
    assert_eq!(settings.addresses, AddressPlan::default());
    assert!(settings.site_id.is_some() && settings.usb.uplink.is_some());
}

#[test]
fn every_mistake_is_told_at_once() {
    let errors = from_toml(
        "nodes = 3\n[libvirt]\nmemory = \"much\"\ncpus = 0\nmemroy = 1\ntopology = \"star\"\ntimeout = true\n\
         [adresses]\n[site]\nnameservers = [\"x\", \"y\"]\n[addresses]\nanycast = \"fd00::\"\n",
    )
    .unwrap_err();
    let told: Vec<String> = errors.0.iter().map(ToString::to_string).collect();
    assert_eq!(errors.0.len(), 10, "{told:#?}");
    assert!(told.iter().any(|line| line.contains("did you mean libvirt.memory?")), "{told:#?}");
    assert!(told.iter().any(|line| line.contains("[adresses]") && line.contains("did you mean addresses?")));
    assert!(told.iter().all(|line| line.contains("site.toml")), "{told:#?}");
    assert!(errors.to_string().starts_with("the settings have 10 mistakes:\n"));
}

#[test]
fn a_file_that_is_no_toml_says_where() {
    let errors = from_toml("[libvirt\nmemory").unwrap_err();
    assert_eq!(errors.0.len(), 1);
    assert!(errors.to_string().contains("line 1"), "{errors}");
}

#[test]
fn the_environment_is_over_the_file_and_a_flag_over_both() {
    let raw = Raw::from_toml("[libvirt]\nmemory = \"4GiB\"\ncpus = 4\n", Path::new("site.toml"))
        .with_variables([
            ("MESHBOOT_LIBVIRT_MEMORY".to_owned(), "5GiB".to_owned()),
            ("MESHBOOT_LIBVIRT_CPUS".to_owned(), "3".to_owned()),
            ("MESHBOOT_SITE_NAMESERVERS".to_owned(), "2001:db8::53, 192.0.2.53".to_owned()),
        ])
        .with_flag("libvirt.cpus", "--cpus", Some("1"))
        .with_flag("libvirt.disk", "--disk", None);
    let settings = Settings::from_raw(raw).unwrap();
    assert_eq!((settings.libvirt.memory_mib, settings.libvirt.cpus), (5120, Some(1)));
    assert_eq!(settings.nameservers.len(), 2);
}

#[test]
fn a_mistake_names_the_variable_or_flag_it_came_by() {
    let raw = Raw::default()
        .with_variables([("MESHBOOT_IMAGE_SUITE".to_owned(), "Tri xie".to_owned())])
        .with_flag("libvirt.memory", "--memory", Some("1MiB"));
    let told = Settings::from_raw(raw).unwrap_err().to_string();
    assert!(told.contains("MESHBOOT_IMAGE_SUITE") && told.contains("--memory"), "{told}");
}

#[test]
fn the_resolved_file_gives_the_same_settings() {
    let raw =
        Raw::from_toml("[libvirt]\ncpus = 3\n[site]\nssh-keys = [\"ssh-ed25519 AAAA me\"]\n", Path::new("a"));
    let settings = Settings::from_raw(raw.clone()).unwrap();
    assert_eq!(from_toml(&raw.to_toml()).unwrap(), settings);
}

#[test]
fn machines_are_told_of_what_the_site_has() {
    let settings = from_toml(
        "[site]\nnameservers = [\"192.0.2.53\", \"2001:db8::53\"]\n\
         [netboot]\nsearch = [\"mesh.example.\"]\nntp = [\"2001:db8::123\"]\n",
    )
    .unwrap();
    let services = settings.netboot.services(&settings.nameservers).unwrap();
    let address = |text: &str| vec![text.parse::<Ipv6Addr>().unwrap()];
    assert_eq!(services.dns(), address("2001:db8::53"));
    assert_eq!(services.ntp(), address("2001:db8::123"));
    assert_eq!(services.search()[0].to_string(), "mesh.example");
    assert!(!settings.https);
    assert!(from_toml("[netboot]\nhttps = true\n").unwrap().https);
    let wrong =
        from_toml("[netboot]\nsearch = [\"a b\"]\nntp = [\"192.0.2.1\"]\nhttps = \"yes\"\n").unwrap_err();
    assert_eq!(wrong.0.len(), 3, "{wrong}");
    let many = from_toml(&format!("[netboot]\nntp = [{}]\n", "\"2001:db8::1\", ".repeat(5))).unwrap_err();
    assert!(many.to_string().contains("5 clocks, and there is room for 4"), "{many}");
}

#[test]
fn other_prefixes_move_every_address() {
    let settings = from_toml("[addresses]\nanycast = \"fd00:1::/64\"\nmachines = \"fd00:2::/64\"\n").unwrap();
    assert!(settings.addresses.anycast.contains(&settings.addresses.apiserver));
    let overlap = from_toml("[libvirt]\nhost-v6 = \"fd65:7b9c:569:680::1/64\"\n").unwrap_err();
    assert!(overlap.to_string().contains("overlaps addresses.anycast"), "{overlap}");
}

#[test]
fn images_have_the_packages_and_arguments_that_are_said() {
    let text = "[image]\npackages = [\"pciutils\", \"g++\"]\nkernel-arguments = [\"console=ttyS1,115200\"]\n";
    let image = from_toml(text).unwrap().image;
    assert_eq!(
        (image.packages, image.kernel_arguments),
        (vec!["pciutils".to_owned(), "g++".to_owned()], vec!["console=ttyS1,115200".to_owned()],)
    );
    for (line, problem) in [
        ("packages = [\"Pciutils\"]", "no package of Debian"),
        ("packages = [\"a\"]", "no package of Debian"),
        ("packages = [\"-y\"]", "no package of Debian"),
        ("kernel-arguments = [\"a b\"]", "no word"),
        ("kernel-arguments = [\"meshboot.root=x\"]", "set by meshboot itself"),
        ("kernel-arguments = [\"ignition.firstboot\"]", "set by meshboot itself"),
    ] {
        let said = from_toml(&format!("[image]\n{line}\n")).unwrap_err().to_string();
        assert!(said.contains(problem), "{said}");
    }
    let flags =
        [("image.packages", "--package", &["pciutils".to_owned()][..]), ("image.packages", "--package", &[])];
    let raw =
        flags.into_iter().fold(Raw::default(), |raw, (name, flag, items)| raw.with_flags(name, flag, items));
    assert_eq!(Settings::from_raw(raw).unwrap().image.packages, ["pciutils"]);
}

#[test]
fn mirrors_ask_whom_they_are_told_to_and_mistakes_are_named() {
    use crate::gateway::settings::Ask;

    let mirrors = from_toml("").unwrap().mirrors;
    assert_eq!((mirrors.ask, mirrors.room, mirrors.revalidate), (Ask::Everybody, 6 << 30, Some(300)));
    let text = "[mirrors]\nask = \"mirrored\"\nrevalidate = \"always\"\nproxy = \"http://10.0.0.1:3128\"\n\
                endpoints = [\"Registry.example=http://10.0.0.2:5000\"]\n";
    let mirrors = from_toml(text).unwrap().mirrors;
    assert_eq!((mirrors.ask, mirrors.revalidate), (Ask::Mirrored, Some(0)));
    assert_eq!(mirrors.endpoints["registry.example"], "http://10.0.0.2:5000");
    for (line, problem) in [
        ("ask = \"all\"", "none of nobody, mirrored and everybody"),
        ("revalidate = \"5\"", "no duration"),
        ("endpoints = [\"registry.example\"]", "not NAME=URL"),
        ("credentials = \"/no/such/file\"", "cannot be read"),
        ("authorities = \"/dev/null\"", "no PEM certificate"),
        ("proxy = \"proxy:3128\"", "no http(s) URL"),
    ] {
        let said = from_toml(&format!("[mirrors]\n{line}\n")).unwrap_err().to_string();
        assert!(said.contains(problem), "{said}");
    }
}
