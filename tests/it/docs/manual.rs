//! Pages for man(1) and scripts for shells.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write as _;
use std::process::{Command, Output, Stdio};

use anyhow::{Context as _, Result, ensure};
use bootstrap::cli::Cli;
use clap::CommandFactory as _;

use crate::cli::binary;

/// The verbs that people use, as `meshboot-node-add`.
fn verbs(command: &clap::Command, name: &str, all: &mut BTreeSet<String>) {
    all.insert(name.to_owned());
    for verb in command.get_subcommands().filter(|verb| !verb.is_hide_set()) {
        verbs(verb, &format!("{name}-{}", verb.get_name()), all);
    }
}

/// What a program of this computer says to a text on its standard input; nothing if it is not installed.
fn tell(program: &str, arguments: &[&str], text: &[u8]) -> Result<Option<Output>> {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = match command.spawn() {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        child => child.with_context(|| format!("cannot start {program}"))?,
    };
    let mut input = child.stdin.take().context("no input")?;
    let text = text.to_owned();
    // What it says meanwhile has to be read.
    let writer = std::thread::spawn(move || input.write_all(&text));
    let output = child.wait_with_output()?;
    // A program that has seen enough is right to go.
    let _ = writer.join();
    Ok(Some(output))
}

#[test]
fn every_verb_has_a_page_that_man_reads() -> Result<()> {
    let desk = tempfile::tempdir()?;
    let folder = desk.path().join("share/man1");
    let done = Command::new(binary()).arg("man").arg(&folder).output()?;
    ensure!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let mut wanted = BTreeSet::new();
    verbs(&Cli::command(), "meshboot", &mut wanted);
    let wanted: BTreeSet<String> = wanted.into_iter().map(|name| format!("{name}.1")).collect();
    let there = fs::read_dir(&folder)?.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
    let there: BTreeSet<String> = there.collect::<Result<_>>()?;
    assert_eq!(there, wanted);
    for name in &there {
        let text = fs::read(folder.join(name))?;
        ensure!(String::from_utf8_lossy(&text).contains(".SH SYNOPSIS"), "{name}");
        // What is no mistake to groff may be one to mandoc, and the other way round.
        if let Some(output) = tell("groff", &["-man", "-ww", "-z", "-Tutf8"], &text)? {
            let says = String::from_utf8_lossy(&output.stderr).into_owned();
            ensure!(output.status.success() && says.is_empty(), "{name}: {says}");
        }
        if let Some(output) = tell("mandoc", &["-Tlint", "-Werror"], &text)? {
            ensure!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stdout));
        }
    }
    Ok(())
}

#[test]
fn where_no_folder_can_be_made_nothing_is_written() -> Result<()> {
    let desk = tempfile::tempdir()?;
    let file = desk.path().join("file");
    fs::write(&file, "")?;
    let done = Command::new(binary()).arg("man").arg(file.join("man1")).output()?;
    ensure!(done.status.code() == Some(73), "{done:?}");
    Ok(())
}

#[test]
fn shells_accept_their_scripts() -> Result<()> {
    let mut asked = 0;
    for (shell, arguments) in [("bash", &["-n"][..]), ("zsh", &["-n"]), ("fish", &["--no-execute"])] {
        let done = Command::new(binary()).args(["completions", shell]).output()?;
        ensure!(done.status.success(), "{shell}: {}", String::from_utf8_lossy(&done.stderr));
        let script = String::from_utf8(done.stdout)?;
        for word in ["deploy", "teardown", "node", "force-link"] {
            ensure!(script.contains(word), "{shell} does not know {word}");
        }
        if let Some(output) = tell(shell, arguments, script.as_bytes())? {
            ensure!(output.status.success(), "{shell}: {}", String::from_utf8_lossy(&output.stderr));
            asked += 1;
        }
    }
    ensure!(asked > 0, "none of the shells is here");
    for shell in ["elvish", "powershell"] {
        let done = Command::new(binary()).args(["completions", shell]).output()?;
        ensure!(done.status.success() && done.stdout.len() > 1000, "{shell}");
    }
    let done = Command::new(binary()).args(["completions", "csh"]).output()?;
    ensure!(done.status.code() == Some(64), "{done:?}");
    Ok(())
}

/// What bash offers where a person presses the tabulator.
#[test]
fn bash_completes_verbs_and_options() -> Result<()> {
    let script = Command::new(binary()).args(["completions", "bash"]).output()?.stdout;
    let offered = |line: &str| -> Result<Vec<String>> {
        let words: Vec<&str> = line.split(' ').collect();
        let ask = format!(
            "{}\nCOMP_WORDS=({line}); COMP_CWORD={}; COMP_LINE='{line}'\n_meshboot meshboot '{}' '{}'\nprintf '%s\\n' \"${{COMPREPLY[@]}}\"\n",
            String::from_utf8_lossy(&script),
            words.len() - 1,
            words.last().unwrap_or(&""),
            words.get(words.len().wrapping_sub(2)).unwrap_or(&""),
        );
        let output = tell("bash", &["--norc"], ask.as_bytes())?.context("no bash")?;
        Ok(String::from_utf8(output.stdout)?.lines().map(str::to_owned).collect())
    };
    ensure!(offered("meshboot tear")? == ["teardown"]);
    ensure!(offered("meshboot node rein")? == ["reinstall"]);
    ensure!(offered("meshboot node add --plug")? == ["--plug-into"]);
    Ok(())
}
