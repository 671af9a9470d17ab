//! Into a node, and what it says: ssh, scp, the serial console and logs.

use std::ffi::OsString;
use std::fs;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::Context as _;
use futures::future::join_all;
use hardware::plan::Layout;
use hardware::virsh::SYSTEM_URI;
use schemars::JsonSchema;
use serde::Serialize;

use super::Machines;
use super::list::host;
use crate::cli::node::NodeLogs;
use crate::exit::{Code, Failure, OrFail as _};
use crate::progress::{self, Reporter};
use crate::ssh::{self, Ssh};
use crate::verbs::Context;

/// A node sends its last lines at once; a busy one, soon.
const LOGS_LIMIT: Duration = Duration::from_secs(30);

/// What one machine said.
#[derive(Debug, Serialize, JsonSchema)]
struct Said {
    /// Its name.
    name: String,
    /// Where the lines are from: `journal` or `console`.
    from: &'static str,
    /// Why they are not from its journal, if they were to be.
    reason: Option<String>,
    /// Its last lines.
    lines: Vec<String>,
}

/// What machines said.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct AllSaid {
    logs: Vec<Said>,
}

/// A file with what they said.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Saved {
    file: PathBuf,
    /// How many lines it has.
    lines: usize,
}

/// `node ssh`: this process becomes ssh.
pub(super) async fn ssh(context: &Context, name: &str, command: &[String]) -> Result<(), Failure> {
    let host = host(context, name).await?;
    let mut arguments = Ssh::new(&context.directory).arguments(&host);
    if !command.is_empty() {
        arguments.push("--".into());
        arguments.extend(command.iter().map(OsString::from));
    }
    Err(become_program(ssh::PROGRAM, &arguments))
}

/// `node cp`: this process becomes scp.
pub(super) async fn copy(context: &Context, from: &str, to: &str) -> Result<(), Failure> {
    let (there, is_source) = match (remote(from), remote(to)) {
        (Some(there), None) => (there, true),
        (None, Some(there)) => (there, false),
        (Some(_), Some(_)) | (None, None) => {
            let message =
                format!("of `{from}` and `{to}` one must be on a node, as NAME:PATH, and the other here");
            return Err(Failure::new(Code::Usage, message).next("a path here that has a colon: ./a:b"));
        }
    };
    let (name, path) = there;
    let host = host(context, name).await?;
    let there = OsString::from(format!("root@[{}]:{path}", host.address));
    let mut arguments = Ssh::new(&context.directory).options(&host);
    arguments.extend(["-r".into(), "-p".into(), "--".into()]);
    arguments.extend(if is_source { [there, to.into()] } else { [from.into(), there] });
    Err(become_program("scp", &arguments))
}

/// `node console`: this process becomes virsh.
pub(super) async fn console(context: &Context, name: &str) -> Result<(), Failure> {
    let quiet = Reporter::silent();
    let machines = Machines::open(context, &quiet).await?;
    let domain = machines.deployment.domain(machines.deployment.find(name)?);
    let arguments = ["-c", SYSTEM_URI, "console", "--domain", &domain].map(OsString::from);
    Err(become_program("virsh", &arguments))
}

/// `node logs`.
pub(super) async fn logs(context: &Context, options: &NodeLogs, reporter: &Reporter) -> Result<(), Failure> {
    let script = journal(options);
    if let (Some(name), true) = (&options.name, options.follow) {
        let host = host(context, name).await?;
        let mut arguments = Ssh::new(&context.directory).arguments(&host);
        arguments.extend(["--".into(), script.into()]);
        return Err(become_program(ssh::PROGRAM, &arguments));
    }
    let deployment = context.directory.require()?;
    let names = match &options.name {
        Some(name) => vec![name.clone()],
        None => deployment.machines.iter().map(|machine| machine.name.to_string()).collect(),
    };
    let logs = join_all(names.iter().map(|name| said(context, name, options, &script))).await;
    let logs: Vec<Said> = logs.into_iter().collect::<Result<_, _>>()?;
    let several = logs.len() > 1;
    let lines = logs.iter().flat_map(|said| {
        said.lines
            .iter()
            .map(move |line| if several { format!("[{}] {line}", said.name) } else { line.clone() })
    });
    let text: Vec<String> = lines.collect();
    for Said { name, reason, from, .. } in &logs {
        if let Some(reason) = reason {
            reporter.warn(&format!("{name} does not answer, so this is its {from}: {reason}"));
        }
    }
    if let Some(path) = &options.file {
        let what = || format!("cannot write {}", path.display());
        fs::write(path, format!("{}\n", text.join("\n"))).with_context(what).or_fail(Code::Io)?;
        let saved = Saved { file: path.clone(), lines: text.len() };
        reporter.result(&saved, &format!("{} lines are in {}", text.len(), path.display()));
        return Ok(());
    }
    reporter.result(&AllSaid { logs }, &text.join("\n"));
    Ok(())
}

/// The last lines of one machine: of its journal, or of its console where it does not answer.
async fn said(context: &Context, name: &str, options: &NodeLogs, script: &str) -> Result<Said, Failure> {
    let console = |reason: Option<String>| {
        let lines = console_lines(context, name, options.lines)?;
        Ok(Said { name: name.to_owned(), from: "console", reason, lines })
    };
    if options.console {
        return console(None);
    }
    let answered = match host(context, name).await {
        Ok(host) => {
            let run = Ssh::new(&context.directory).run(&host, script, LOGS_LIMIT).await;
            run.map_err(|error| format!("{:#}", anyhow::Error::new(error)))
        }
        Err(failure) if failure.code == Code::Usage => return Err(failure),
        Err(failure) => Err(failure.message()),
    };
    match answered {
        Ok(text) => {
            let lines = text.lines().map(str::to_owned).collect();
            Ok(Said { name: name.to_owned(), from: "journal", reason: None, lines })
        }
        Err(reason) => console(Some(reason)),
    }
}

fn journal(options: &NodeLogs) -> String {
    let problems = if options.problems { " --priority=warning" } else { "" };
    let follow = if options.follow { " --follow" } else { "" };
    format!("journalctl --no-pager --quiet --lines={}{problems}{follow}", options.lines)
}

fn console_lines(context: &Context, name: &str, lines: u32) -> Result<Vec<String>, Failure> {
    let path = Layout(context.directory.path()).console(name);
    let log = fs::read(&path).with_context(|| format!("cannot read the console's log {}", path.display()));
    let log = String::from_utf8_lossy(&log.or_fail(Code::Unavailable)?).into_owned();
    let all: Vec<&str> = log.lines().collect();
    let first = all.len().saturating_sub(usize::try_from(lines).unwrap_or(usize::MAX));
    let shown = all.get(first..).unwrap_or_default().iter();
    Ok(shown.map(|line| progress::plain(line)).collect())
}

/// `NAME:PATH`; a name has no slash, so a path here can always be written.
fn remote(text: &str) -> Option<(&str, &str)> {
    let (name, path) = text.split_once(':')?;
    (!name.is_empty() && !name.contains('/') && name != ".").then_some((name, path))
}

/// This process becomes another program, with its terminal and its exit code. Returns why it did not.
fn become_program(program: &str, arguments: &[OsString]) -> Failure {
    let error = Command::new(program).args(arguments).exec();
    let what = format!("cannot run {program}");
    Failure { code: Code::Unavailable, error: anyhow::Error::new(error).context(what), next: None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_on_a_node_is_told_from_what_is_here() {
        assert_eq!(remote("node1:/var/log"), Some(("node1", "/var/log")));
        assert_eq!(remote("node1:"), Some(("node1", "")));
        assert_eq!(remote("./a:b"), None);
        assert_eq!(remote("/tmp/a:b"), None);
        assert_eq!(remote("file"), None);
    }
}
