//! Runs what a page shows, as a reader would: one command after the other, in one directory.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use tempfile::TempDir;

use super::{Block, Page, Step, root};

/// The words after `sh` whose blocks are run.
pub const RUN: [&str; 3] = ["cli", "built", "mesh"];

/// A directory to type a page's commands in.
#[derive(Debug)]
pub struct Desk {
    directory: TempDir,
    environment: Vec<(&'static str, OsString)>,
    /// Whether the rest of this process's environment is kept.
    own: bool,
}

// === impl Desk ===

impl Desk {
    /// An empty directory with this program in it, and nothing of this computer's user. `./deploy` and `./teardown` are
    /// what they would build and run.
    ///
    /// # Panics
    ///
    /// The directory cannot be made.
    #[must_use]
    pub fn empty(program: &Path) -> Self {
        let desk = Self::with(program, false);
        for verb in ["deploy", "teardown"] {
            let path = desk.path().join(verb);
            fs::write(&path, format!("#!/bin/sh\nexec meshboot {verb} \"$@\"\n")).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        }
        desk
    }

    /// A directory of its own beside the checkout, with the checkout's own `./deploy` and `./teardown` and this user's
    /// images; `cluster` is where the deployment is or will be.
    ///
    /// # Panics
    ///
    /// The directory cannot be made.
    #[must_use]
    pub fn checkout(program: &Path, cluster: Option<&Path>) -> Self {
        let mut desk = Self::with(program, true);
        for name in ["deploy", "teardown"] {
            symlink(root().join(name), desk.path().join(name)).unwrap();
        }
        let here = desk.path().join("cluster");
        if let Some(cluster) = cluster {
            symlink(cluster, &here).unwrap();
        }
        desk.environment.push(("MESHBOOT_CLUSTER", cluster.unwrap_or(&here).as_os_str().to_owned()));
        desk
    }

    fn with(program: &Path, own: bool) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let bin = directory.path().join(".bin");
        fs::create_dir(&bin).unwrap();
        symlink(program, bin.join("meshboot")).unwrap();
        let kubectl = directory.path().join("cluster/bin");
        let before = std::env::var_os("PATH").unwrap_or_default();
        let paths = [bin, kubectl].into_iter().chain(std::env::split_paths(&before));
        let path = std::env::join_paths(paths).unwrap();
        let mut environment = vec![("PATH", path)];
        if !own {
            environment.push(("HOME", directory.path().as_os_str().to_owned()));
        }
        Self { directory, environment, own }
    }

    fn path(&self) -> &Path {
        self.directory.path()
    }

    /// Runs the blocks of a page that have this word after `sh`, and looks whether they say what the page shows. Returns how
    /// many commands it were.
    ///
    /// # Panics
    ///
    /// A command ends in another way than the page has it, or says something else.
    pub fn run(&self, page: &Page, proof: &str) -> usize {
        let (mut said, mut ran) = (String::new(), 0);
        for block in page.blocks() {
            match (block.language(), block.proof()) {
                ("sh", word) if word == proof => {
                    said.clear();
                    for step in block.steps() {
                        said.push_str(&self.step(page, &step));
                        ran += 1;
                    }
                }
                ("text", word) if word == proof => compare(page, &block, &said),
                (_, "file") => fs::write(self.path().join(block.word(2)), &block.text).unwrap(),
                _ => {}
            }
        }
        ran
    }

    /// What one command says.
    fn step(&self, page: &Page, step: &Step) -> String {
        let begun = Instant::now();
        let mut command = Command::new("sh");
        if !self.own {
            command.env_clear();
        }
        command.args(["-c", &step.command]).current_dir(self.path());
        command.envs(self.environment.iter().map(|(name, value)| (name, value))).stdin(Stdio::null());
        let output = command.output().unwrap();
        let mut said = String::from_utf8_lossy(&output.stdout).into_owned();
        said.push_str(&String::from_utf8_lossy(&output.stderr));
        let place = format!("{}:{}", page.path.display(), step.line);
        eprintln!("{place}: {}: {} after {} s", step.command, output.status, begun.elapsed().as_secs());
        let wanted = step.exit;
        assert_eq!(output.status.code(), Some(wanted), "{place}: `{}` said:\n{said}", step.command);
        said
    }
}

/// Each line that is shown must be one of those that were said, in this order.
fn compare(page: &Page, block: &Block, said: &str) {
    if let Err(line) = shows(said, &block.text) {
        panic!("{}:{}: shown but not said: {line}\nwhat was said:\n{said}", page.path.display(), block.line);
    }
}

fn shows(said: &str, shown: &str) -> Result<(), String> {
    let plain = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
    let mut said = said.lines().map(plain);
    for line in shown.lines().map(plain).filter(|line| !line.is_empty() && line != "…") {
        if !said.any(|one| is_like(&one, &line)) {
            return Err(line);
        }
    }
    Ok(())
}

/// Whether a line is another one, in which `…` stands for anything.
fn is_like(line: &str, pattern: &str) -> bool {
    let parts: Vec<&str> = pattern.split('…').map(str::trim).collect();
    let mut rest = line;
    for (at, part) in parts.iter().enumerate() {
        let Some(found) = rest.find(part) else { return false };
        if at == 0 && found > 0 {
            return false;
        }
        rest = &rest[found + part.len()..];
    }
    rest.is_empty() || parts.last().is_some_and(|last| last.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shown_must_have_been_said() {
        let said = "NAME   POWER\nseed   running  2001:db8::/119\n\nnode1  off\n";
        assert_eq!(shows(said, "NAME POWER\n…\nnode1 off\n"), Ok(()));
        assert_eq!(shows(said, "seed … 2001:db8::/119\n"), Ok(()));
        assert_eq!(shows(said, "seed running …\n"), Ok(()));
        for wrong in ["node1 off\nseed …\n", "seed\n", "running …\n", "seed … 119 …x\n", "node2 off\n"]
        {
            assert!(shows(said, wrong).is_err(), "{wrong}");
        }
    }
}
