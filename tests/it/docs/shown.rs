//! What pages show as a command is one, and a test runs it.

use std::path::Path;

use bootstrap::cli::Cli;
use bootstrap::exit::Code;
use clap::{Command, CommandFactory as _, Parser as _};
use tests::book::run::{Desk, RUN};
use tests::book::{Block, Page, Step, pages, root};

use super::elsewhere::ELSEWHERE;
use crate::cli::binary;

/// Languages of blocks that are no commands and nothing that is said.
const OTHERS: [&str; 3] = ["text", "toml", "yaml"];

/// The pages that tell how to use the program; those beside the tests tell how to test it.
fn manuals() -> impl Iterator<Item = Page> {
    pages().into_iter().filter(|page| !page.path.starts_with("tests"))
}

fn commands(page: &Page) -> Vec<(Block, Step)> {
    let blocks = page.blocks().into_iter().filter(|block| block.language() == "sh");
    blocks.flat_map(|block| block.steps().into_iter().map(move |step| (block.clone(), step))).collect()
}

#[test]
fn what_is_shown_for_a_terminal_does_what_the_page_says() {
    let mut ran = 0;
    for page in manuals() {
        // Each page is read by itself.
        ran += Desk::empty(&binary()).run(&page, "cli");
    }
    assert!(ran > 20, "{ran} commands");
}

#[test]
fn every_block_says_what_proves_it() {
    for page in manuals() {
        for block in page.blocks() {
            let (path, line, info) = (page.path.display(), block.line, block.info.join(" "));
            let known = match (block.language(), block.info.len()) {
                ("sh", 2) => RUN.contains(&block.proof()) || block.proof() == "elsewhere",
                ("text", 2) => RUN.contains(&block.proof()),
                (language, 1) => OTHERS.contains(&language),
                (language, 3) => OTHERS.contains(&language) && block.proof() == "file",
                _ => false,
            };
            assert!(known, "{path}:{line}: nobody knows what to do with a block of `{info}`");
        }
    }
}

#[test]
fn every_command_shown_is_one() {
    for page in manuals() {
        for (_, step) in commands(&page) {
            let place = format!("{}:{}", page.path.display(), step.line);
            for words in step.simple() {
                let Some(arguments) = ours(&words) else { continue };
                let is_wrong = step.exit == i32::from(Code::Usage.number());
                if let Err(error) = Cli::try_parse_from(&arguments)
                    && !is_wrong
                    && error.use_stderr()
                {
                    panic!("{place}: {}: {error}", step.command);
                }
            }
        }
        for span in page.spans() {
            let words: Vec<String> = span.it.split_whitespace().map(str::to_owned).collect();
            let Some(arguments) = ours(&words) else { continue };
            if let Err(what) = names_a_verb(&arguments[1..]) {
                panic!("{}:{}: `{}`: there is no {what}", page.path.display(), span.line, span.it);
            }
        }
    }
}

/// The arguments of our own program, if these words run it.
fn ours(words: &[String]) -> Option<Vec<String>> {
    let verb = match words.first()?.as_str() {
        "meshboot" => None,
        "./deploy" => Some("deploy".to_owned()),
        "./teardown" => Some("teardown".to_owned()),
        _ => return None,
    };
    Some(std::iter::once("meshboot".to_owned()).chain(verb).chain(words[1..].iter().cloned()).collect())
}

/// Whether words of a sentence name a verb and its options; what is to be filled in, as NAME, may stand for anything.
fn names_a_verb(words: &[String]) -> Result<(), String> {
    let mut program = Cli::command();
    program.build();
    let mut command: &Command = &program;
    let mut words = words.iter();
    while let Some(word) = words.next() {
        if word == "--" {
            break;
        } else if word.starts_with('-') {
            let (name, value) =
                word.split_once('=').map_or((word.as_str(), None), |(name, value)| (name, Some(value)));
            let is_it = |option: &&clap::Arg| {
                let short = option.get_short().map(|short| format!("-{short}"));
                option.get_long().map(|long| format!("--{long}")).as_deref() == Some(name)
                    || short.as_deref() == Some(name)
            };
            let option = command.get_arguments().find(is_it).ok_or_else(|| format!("option {name}"))?;
            if value.is_none() && option.get_action().takes_values() {
                words.next();
            }
        } else if command.has_subcommands() {
            command = command.find_subcommand(word).ok_or_else(|| format!("verb {word}"))?;
        } else if command.get_positionals().next().is_none() {
            return Err(format!("place for {word}"));
        }
    }
    Ok(())
}

#[test]
fn every_command_that_is_not_run_here_is_run_elsewhere() {
    let mut shown: Vec<String> = Vec::new();
    for page in manuals() {
        for (block, step) in commands(&page) {
            if block.proof() == "elsewhere" {
                let known = ELSEWHERE.iter().any(|one| one.command == step.command);
                assert!(known, "{}:{}: no test runs `{}`", page.path.display(), step.line, step.command);
                shown.push(step.command);
            }
        }
    }
    for one in ELSEWHERE {
        assert!(shown.iter().any(|command| command == one.command), "no page shows `{}`", one.command);
        let text = Page::read(Path::new(one.file)).text;
        assert!(text.contains(one.by), "{} has no `{}`, which is to run `{}`", one.file, one.by, one.command);
    }
}

#[test]
fn pages_for_the_vm_lane_are_run_by_it() {
    let lane: String = ["line", "grid", "docs"]
        .map(|name| Page::read(Path::new(&format!("tests/e2e/{name}.rs"))).text)
        .concat();
    for page in manuals() {
        let has =
            |word: &str| page.blocks().iter().any(|block| block.language() == "sh" && block.proof() == word);
        if has("mesh") || has("built") {
            let path = page.path.display().to_string();
            assert!(lane.contains(&format!("\"{path}\"")), "the VM lane does not run {path}");
        }
    }
}

#[test]
fn what_xtask_is_said_to_do_it_does() {
    let help = Page::read(Path::new("tests/xtask/src/main.rs")).text;
    for page in pages() {
        let steps = commands(&page).into_iter().map(|(_, step)| step.command);
        for command in steps.chain(page.spans().into_iter().map(|span| span.it)) {
            let Some(rest) = command.strip_prefix("cargo xtask ") else { continue };
            let verb = rest.split_whitespace().next().unwrap_or_default();
            assert!(help.contains(&format!("cargo xtask {verb}")), "{}: `{command}`", page.path.display());
        }
    }
    assert!(root().join("deploy").exists() && root().join("teardown").exists());
}
