//! The command line with the real binary: what is refused, with which words and exit code, and that nothing is
//! left behind.

mod answers;
mod experiment;
pub(crate) mod explain;
mod image;
pub(crate) mod mesh;

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use anyhow::{Context, Result, ensure};
use tempfile::TempDir;

/// A directory to work in, with nothing of this computer's user in its environment.
struct Desk {
    directory: TempDir,
    path: OsString,
}

impl Desk {
    fn new() -> Result<Self> {
        let directory = tempfile::tempdir()?;
        Ok(Self { directory, path: std::env::var_os("PATH").unwrap_or_default() })
    }

    /// The same, on a computer where only these programs are installed.
    fn with_programs(programs: &[(&str, &str)]) -> Result<Self> {
        let mut desk = Self::new()?;
        let bin = desk.directory.path().join("bin");
        fs::create_dir(&bin)?;
        for (name, script) in programs {
            use std::os::unix::fs::PermissionsExt as _;
            let path = bin.join(name);
            fs::write(&path, format!("#!/bin/sh\n{script}\n"))?;
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
        }
        desk.path = bin.into_os_string();
        Ok(desk)
    }

    fn cluster(&self) -> PathBuf {
        self.directory.path().join("cluster")
    }

    fn run(&self, arguments: &[&str]) -> Result<Output> {
        let run = self.command(arguments).output();
        let run =
            run.with_context(|| format!("cannot run {}: cargo build -p bootstrap", binary().display()))?;
        tests::answers::are_published(arguments, &run.stdout)?;
        Ok(run)
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(binary());
        command
            .args(arguments)
            .current_dir(self.directory.path())
            .env_clear()
            .env("PATH", &self.path)
            .env("HOME", self.directory.path());
        command
    }

    /// Runs it and expects this exit code and all these words.
    fn refuses(&self, arguments: &[&str], code: i32, words: &[&str]) -> Result<()> {
        let output = self.run(arguments)?;
        let says = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(
            output.status.code() == Some(code),
            "{arguments:?} ended with {} and said {says}",
            output.status
        );
        for word in words {
            ensure!(says.contains(word), "{arguments:?} does not say `{word}` but {says}");
        }
        ensure!(!self.cluster().exists(), "{arguments:?} left {} behind", self.cluster().display());
        Ok(())
    }
}

/// Built by cargo beside this test, of the same profile.
pub(crate) fn binary() -> PathBuf {
    let test = std::env::current_exe().unwrap_or_default();
    let profile = test.ancestors().nth(2).unwrap_or_else(|| Path::new("."));
    profile.join("meshboot")
}

#[test]
fn a_wrong_number_of_machines_is_a_mistake_of_usage() -> Result<()> {
    let desk = Desk::new()?;
    for number in ["0", "-1", "x", "10000", "1.5", ""] {
        desk.refuses(&["deploy", "libvirt", number], 64, &["1 to 500"])?;
    }
    desk.refuses(&["deploy", "libvirt"], 64, &["<N>"])?;
    desk.refuses(&["deploy", "moon"], 64, &["moon"])?;
    desk.refuses(&["deploy", "libvirt", "2", "--memroy", "3GiB"], 64, &["--memory"])
}

#[test]
fn help_and_version_are_no_mistakes() -> Result<()> {
    let desk = Desk::new()?;
    for arguments in [&["--help"][..], &["deploy", "libvirt", "--help"], &["--version"]] {
        let output = desk.run(arguments)?;
        ensure!(output.status.success() && !output.stdout.is_empty(), "{arguments:?}");
    }
    Ok(())
}

#[test]
fn every_mistake_of_the_settings_is_told_at_once() -> Result<()> {
    let desk = Desk::new()?;
    let file = desk.directory.path().join("site.toml");
    fs::write(
        &file,
        "[libvirt]\nmemory = \"lots\"\nmemroy = 1\ncpus = 0\n[adresses]\n[addresses]\nanycast = \"fd00::\"\n",
    )?;
    let file = file.to_string_lossy();
    let words =
        ["5 mistakes", "libvirt.memory", "did you mean", "libvirt.cpus", "[adresses]", "addresses.anycast"];
    desk.refuses(&["--settings", &file, "deploy", "libvirt", "2"], 78, &words)?;
    desk.refuses(&["--settings", &file, "config", "check"], 78, &words)?;
    desk.refuses(&["--settings", "absent.toml", "config", "check"], 78, &["absent.toml"])?;
    desk.refuses(&["deploy", "libvirt", "2", "--memory", "2GX"], 78, &["--memory", "2GX"])
}

#[test]
fn the_example_of_settings_is_good() -> Result<()> {
    let desk = Desk::new()?;
    let example = desk.run(&["config", "example"])?;
    ensure!(example.status.success());
    fs::write(desk.directory.path().join("meshboot.toml"), &example.stdout)?;
    let checked = desk.run(&["config", "check"])?;
    ensure!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));
    Ok(())
}

#[test]
fn a_new_site_has_addresses_of_its_own_and_never_overwrites() -> Result<()> {
    let desk = Desk::new()?;
    for file in ["one.toml", "two.toml"] {
        ensure!(desk.run(&["site", "new", file])?.status.success());
        let checked = desk.run(&["--settings", file, "config", "check"])?;
        ensure!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));
    }
    let read = |name: &str| fs::read_to_string(desk.directory.path().join(name));
    ensure!(read("one.toml")? != read("two.toml")?);
    desk.refuses(&["site", "new", "one.toml"], 73, &["one.toml"])
}

#[test]
fn too_little_memory_says_how_many_would_fit() -> Result<()> {
    let desk = Desk::new()?;
    desk.refuses(
        &["deploy", "libvirt", "500", "--memory", "1TiB", "--seed-memory", "1GiB"],
        69,
        &["not enough memory", "500 machines", "only the seed fits"],
    )?;
    desk.refuses(
        &["deploy", "libvirt", "500", "--seed-memory", "512MiB", "--memory", "512MiB"],
        69,
        &["would fit"],
    )
}

#[test]
fn no_room_on_the_disk_is_told_before_anything_is_made() -> Result<()> {
    if !nix::unistd::geteuid().is_root() {
        return Ok(());
    }
    let desk = Desk::new()?;
    let small = desk.directory.path().join("small");
    fs::create_dir(&small)?;
    let mount = |arguments: &[&str]| -> Result<()> {
        let done = Command::new(arguments[0]).args(&arguments[1..]).arg(&small).status()?;
        ensure!(done.success(), "{arguments:?}");
        Ok(())
    };
    mount(&["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs"])?;
    let cluster = small.join("cluster");
    let arguments = ["--cluster", &cluster.to_string_lossy(), "deploy", "libvirt", "1"];
    let refused = desk.refuses(&arguments, 73, &["no room", "GiB are wanted"]);
    let left = cluster.exists();
    mount(&["umount"])?;
    refused?;
    ensure!(!left, "the cluster directory is left");
    Ok(())
}

#[test]
fn what_is_missing_is_named_with_its_remedy() -> Result<()> {
    if !Path::new("/usr/bin/apt-get").exists() {
        return Ok(());
    }
    // A computer where nothing is installed but apt: programs of the administrator are looked for in fixed places, too.
    let desk = Desk::with_programs(&[("apt-get", "exit 1")])?;
    desk.refuses(
        &["deploy", "libvirt", "1"],
        69,
        &["this computer lacks", "virsh", "qemu-system-x86_64", "--install-deps", "apt-get install"],
    )?;
    if !nix::unistd::geteuid().is_root() {
        return Ok(());
    }
    // As a user who is nobody in particular, and may read what root may.
    let mut command = Command::new("/usr/bin/unshare");
    command.arg("--user").arg(binary()).args(["deploy", "libvirt", "1", "--install-deps"]);
    command.current_dir(desk.directory.path()).env_clear().env("PATH", &desk.path);
    let output = command.env("HOME", desk.directory.path()).output()?;
    let says = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(output.status.code() == Some(77), "{} {says}", output.status);
    ensure!(says.contains("only root can install it") && says.contains("as root: "), "{says}");
    Ok(())
}

#[test]
fn what_nobody_foresaw_is_called_a_mistake_of_the_program() -> Result<()> {
    let desk = Desk::new()?;
    if !nix::unistd::geteuid().is_root() || !desk.run(&["deps"])?.status.success() {
        return Ok(());
    }
    // A computer without /proc.
    let program = binary();
    let script = format!("mount -t tmpfs none /proc && exec {} image build", program.display());
    let mut command = Command::new("/usr/bin/unshare");
    command.args(["--mount", "sh", "-c", &script]).current_dir(desk.directory.path());
    let output = command.env("HOME", desk.directory.path()).output()?;
    let says = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(output.status.code() == Some(70), "{} {says}", output.status);
    ensure!(says.contains("cannot tell where this program is"), "{says}");
    Ok(())
}

#[test]
fn an_existing_deployment_is_not_overwritten() -> Result<()> {
    let desk = Desk::new()?;
    fs::create_dir(desk.cluster())?;
    fs::write(desk.cluster().join("thesis.tex"), "years of work")?;
    let output = desk.run(&["deploy", "libvirt", "1"])?;
    let says = String::from_utf8_lossy(&output.stderr).into_owned();
    // Without libvirt it does not come so far.
    ensure!(matches!(output.status.code(), Some(69 | 73)), "{} {says}", output.status);
    ensure!(desk.cluster().join("thesis.tex").exists());
    let torn = desk.run(&["teardown"])?;
    ensure!(torn.status.success() && desk.cluster().join("thesis.tex").exists());
    Ok(())
}

#[test]
fn teardown_of_nothing_is_harmless_twice() -> Result<()> {
    let desk = Desk::new()?;
    for _ in 0..2 {
        let output = desk.run(&["teardown"])?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        ensure!(String::from_utf8_lossy(&output.stdout).contains("nothing to remove"));
    }
    Ok(())
}

#[test]
fn status_of_nothing_says_so_and_json_is_one_document_a_line() -> Result<()> {
    let desk = Desk::new()?;
    desk.refuses(&["status"], 69, &["no deployment", "./deploy libvirt 4"])?;
    let output = desk.run(&["-o", "json", "status"])?;
    let events = String::from_utf8(output.stdout)?;
    ensure!(!events.is_empty());
    for line in events.lines() {
        let event: serde_json::Value = serde_json::from_str(line)?;
        ensure!(event["event"] == "error" && event["code"] == 69, "{line}");
    }
    Ok(())
}

#[test]
fn a_stick_is_only_written_where_it_was_meant() -> Result<()> {
    let desk = Desk::new()?;
    let file = desk.directory.path().join("notes.txt");
    fs::write(&file, "do not lose")?;
    desk.refuses(&["deploy", "usb", "notes.txt"], 73, &["nobody can be asked", "--yes"])?;
    ensure!(fs::read_to_string(&file)? == "do not lose");
    desk.refuses(&["deploy", "usb", "/"], 65, &["neither a file nor a disk"])
}
