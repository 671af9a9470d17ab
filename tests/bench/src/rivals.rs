//! Who else does such work, from Debian's packages, each set up for speed as far as its manual says how.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use ::tests::debian::unpacked;
use anyhow::{Context, Result, bail};

use crate::cable::{Cable, NEAR_PORT, POOL, prefix};
use crate::content::Content;
use crate::server::Server;

/// A program that is needed, and where it comes from.
#[derive(Debug)]
struct Tool {
    program: &'static str,
    package: &'static str,
    /// What makes it tell its version.
    version: &'static [&'static str],
}

const fn tool(program: &'static str, package: &'static str, version: &'static [&'static str]) -> Tool {
    Tool { program, package, version }
}

const TOOLS: [Tool; 9] = [
    tool("/usr/sbin/kea-dhcp6", "kea-dhcp6-server", &["-v"]),
    tool("/usr/sbin/perfdhcp", "kea-admin", &["-v"]),
    tool("/usr/sbin/dnsmasq", "dnsmasq-base", &["--version"]),
    tool("/usr/sbin/in.tftpd", "tftpd-hpa", &["-V"]),
    tool("/usr/sbin/nginx", "nginx-light", &["-v"]),
    tool("/usr/bin/wrk", "wrk", &["-v"]),
    tool("/usr/bin/curl", "curl", &["--version"]),
    tool("/usr/bin/ip", "iproute2", &["-V"]),
    tool("/usr/bin/findmnt", "util-linux", &["-V"]),
];

/// The version of everything that takes part.
///
/// # Errors
///
/// Something is missing; the packages to install are named.
pub(crate) fn versions() -> Result<Vec<(&'static str, String)>> {
    let missing: Vec<&str> =
        TOOLS.iter().filter(|tool| !Path::new(tool.program).exists()).map(|tool| tool.package).collect();
    if !missing.is_empty() {
        bail!(
            "nobody is left out in silence, and these are missing: {0}. Debian starts servers when they are installed; to \
             keep them quiet: printf '#!/bin/sh\\nexit 101\\n' >/usr/sbin/policy-rc.d; chmod +x /usr/sbin/policy-rc.d; \
             apt-get install --no-install-recommends {0}; rm /usr/sbin/policy-rc.d",
            missing.join(" ")
        );
    }
    TOOLS.iter().map(|tool| Ok((tool.package, version(tool)?))).collect()
}

fn version(tool: &Tool) -> Result<String> {
    let output = Command::new(tool.program).args(tool.version).stdin(Stdio::null()).output();
    let output = output.with_context(|| format!("running {}", tool.program))?;
    // Some say it on the one, some on the other; wrk takes the question for a mistake.
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    Ok(said.lines().find(|line| !line.trim().is_empty()).unwrap_or_default().trim().to_owned())
}

/// Kea, leases in memory and in a file, as Debian has it but for the log. `threads`: none is Debian's default.
pub(crate) fn kea(name: &'static str, folder: &Path, threads: Option<usize>) -> Result<Server> {
    let folder = own_folder(name, folder)?;
    let text = |path: &Path| path.to_string_lossy().into_owned();
    let config = serde_json::json!({ "Dhcp6": {
        "interfaces-config": { "interfaces": [NEAR_PORT] },
        "server-id": { "type": "EN", "enterprise-id": 2495, "identifier": "0123456789", "persist": false },
        "lease-database": {
            "type": "memfile", "persist": true, "name": text(&folder.join("leases6.csv")), "lfc-interval": 0,
        },
        "multi-threading": {
            "enable-multi-threading": threads.is_some(),
            "thread-pool-size": threads.unwrap_or(1),
            "packet-queue-size": 64,
        },
        "preferred-lifetime": 3600, "valid-lifetime": 7200, "renew-timer": 1800, "rebind-timer": 2880,
        "subnet6": [{
            "subnet": POOL, "interface": NEAR_PORT,
            "pools": [{ "pool": "2001:db8:1::1:0:0-2001:db8:1::1:ffff:ffff" }],
        }],
        "loggers": [{
            "name": "kea-dhcp6", "severity": "WARN",
            "output_options": [{ "output": text(&folder.join("log")) }],
        }],
    }});
    let file = folder.join("kea.json");
    fs::write(&file, serde_json::to_vec_pretty(&config)?)?;
    let variables =
        ["KEA_PIDFILE_DIR", "KEA_LOCKFILE_DIR"].map(|name| format!("{name}={}", folder.display()));
    let line = [&["env".to_owned()], &variables[..], &words(&["kea-dhcp6", "-c", &text(&file)])].concat();
    serving(name, &name.replace(' ', "-"), &folder, &line, 547)
}

/// dnsmasq as a DHCPv6 server that routers advertise, with a lease file.
pub(crate) fn dnsmasq_dhcp(folder: &Path) -> Result<Server> {
    let name = "dnsmasq";
    let folder = own_folder("dnsmasq-dhcp", folder)?;
    let leases = format!("--dhcp-leasefile={}", folder.join("leases").display());
    let line = words(&[
        "dnsmasq",
        "--keep-in-foreground",
        "--conf-file=/dev/null",
        "--pid-file=",
        "--user=root",
        "--port=0",
        "--interface=near0",
        "--enable-ra",
        "--quiet-dhcp6",
        "--quiet-ra",
        "--dhcp-range=2001:db8:1::1:0:0,2001:db8:1::1:ffff:ffff,64,2h",
        "--dhcp-lease-max=10000000",
        &leases,
    ]);
    serving(name, "dnsmasq-dhcp", &folder, &line, 547)
}

/// dnsmasq as a TFTP server.
pub(crate) fn dnsmasq_tftp(content: &Content, folder: &Path) -> Result<Server> {
    let folder = own_folder("dnsmasq-tftp", folder)?;
    let root = format!("--tftp-root={}", content.names.display());
    let line = words(&[
        "dnsmasq",
        "--keep-in-foreground",
        "--conf-file=/dev/null",
        "--pid-file=",
        "--user=root",
        "--port=0",
        "--interface=near0",
        "--enable-tftp",
        "--tftp-max=256",
        &root,
    ]);
    serving("dnsmasq", "dnsmasq-tftp", &folder, &line, 69)
}

/// tftpd-hpa.
pub(crate) fn tftpd_hpa(content: &Content, folder: &Path) -> Result<Server> {
    let folder = own_folder("tftpd-hpa", folder)?;
    let root = content.names.to_string_lossy();
    let line = words(&["in.tftpd", "-L", "-6", "-u", "root", "-a", "[::]:69", "-s", &root]);
    serving("tftpd-hpa", "tftpd-hpa", &folder, &line, 69)
}

/// atftpd, the one in Debian that has windows. Debian does not let it be installed beside tftpd-hpa, so it is unpacked.
pub(crate) fn atftpd(content: &Content, folder: &Path) -> Result<Server> {
    let folder = own_folder("atftpd", folder)?;
    let root = content.names.to_string_lossy();
    let log = folder.join("log").to_string_lossy().into_owned();
    let program = unpacked("bookworm", "atftpd")?.join("usr/sbin/atftpd");
    // By itself it binds IPv4 only; a socket that it is handed may be of either kind.
    let address = format!("[{}]:69", prefix()?.near());
    let line = words(&[
        "systemd-socket-activate",
        "--inetd",
        "--datagram",
        "--listen",
        &address,
        &program.to_string_lossy(),
        "--tftpd-timeout",
        "86400",
        "--user",
        "root.root",
        "--verbose=3",
        "--logfile",
        &log,
        &root,
    ]);
    serving("atftpd", "atftpd", &folder, &line, 69)
}

/// nginx with sendfile, a worker for each processor, and no log of what was served.
pub(crate) fn nginx(content: &Content, folder: &Path) -> Result<Server> {
    let folder = own_folder("nginx", folder)?;
    let config = format!(
        "daemon off; user root; worker_processes auto; pid {folder}/pid; error_log {folder}/log;\n\
         events {{ worker_connections 1024; }}\n\
         http {{\n\
         access_log off; sendfile on; tcp_nopush on; tcp_nodelay on; keepalive_requests 1000000;\n\
         client_body_temp_path {folder}/a; proxy_temp_path {folder}/b; fastcgi_temp_path {folder}/c;\n\
         uwsgi_temp_path {folder}/d; scgi_temp_path {folder}/e;\n\
         open_file_cache max=100 inactive=1h; open_file_cache_valid 1h;\n\
         server {{ listen [::]:80; location /boot/ {{ alias {names}/; }}\n\
         location /artefacts/ {{ alias {artefacts}/; }} }}\n}}\n",
        folder = folder.display(),
        names = content.names.display(),
        artefacts = content.artefacts.display(),
    );
    let file = folder.join("nginx.conf");
    fs::write(&file, config)?;
    let line = words(&["nginx", "-c", &file.to_string_lossy()]);
    serving("nginx", "nginx", &folder, &line, 80)
}

/// Starts it on a cable and waits until somebody has the port.
fn serving(name: &'static str, cable: &str, folder: &Path, line: &[String], port: u16) -> Result<Server> {
    let mut server = Server::start(name, Cable::plug(cable)?, folder, line)?;
    server.wait_for_port(port)?;
    Ok(server)
}

fn own_folder(name: &str, folder: &Path) -> Result<std::path::PathBuf> {
    let folder = folder.join(name.replace(' ', "-"));
    fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
    Ok(folder)
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}
