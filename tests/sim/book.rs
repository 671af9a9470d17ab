//! The pages of documentation as tests read them: what is shown as a command, what it prints, and where links lead.
//!
//! What proves a block of commands is said by the word after `sh`:
//! - `cli`: they are run as they stand, one after the other, in an empty directory, by `tests/it/docs.rs`;
//! - `built`: likewise by the VM lane, where the images are made;
//! - `mesh`: by the VM lane on a running mesh;
//! - `elsewhere`: another test runs them, which the table in `tests/it/docs/elsewhere.rs` names.
//!
//! A command must end well, or as `# exit 69` behind it says. `text` with the same word is what the block before it says,
//! among other lines; `…` stands for anything. `toml file NAME` is a file that the commands after it find.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

pub mod run;

/// One page.
#[derive(Debug, Clone)]
pub struct Page {
    /// Where it is, from the root of the checkout.
    pub path: PathBuf,
    /// What it says.
    pub text: String,
}

/// A fenced block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Block {
    /// The line that it begins in, from 1.
    pub line: usize,
    /// The words after the fence.
    pub info: Vec<String>,
    /// What is in it.
    pub text: String,
}

/// One command of a block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// The line that it begins in, from 1.
    pub line: usize,
    /// The command, as a shell reads it.
    pub command: String,
    /// The exit code that it must have.
    pub exit: i32,
}

/// Something on a page, and its line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct At<T> {
    /// The line, from 1.
    pub line: usize,
    /// What is there.
    pub it: T,
}

/// The checkout.
#[must_use]
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().unwrap()
}

/// Every page: README, the book, and what stands beside the tests.
#[must_use]
pub fn pages() -> Vec<Page> {
    let mut paths = vec![PathBuf::from("README.md")];
    collect(Path::new("docs"), &mut paths);
    paths.extend(listed(Path::new("tests")).into_iter().filter(|path| is_page(path)));
    paths.into_iter().map(|path| Page::read(&path)).collect()
}

fn collect(folder: &Path, paths: &mut Vec<PathBuf>) {
    for path in listed(folder) {
        if root().join(&path).is_dir() {
            collect(&path, paths);
        } else if is_page(&path) {
            paths.push(path);
        }
    }
}

/// What is in a folder of the checkout, by paths from its root, in order.
#[must_use]
pub fn listed(folder: &Path) -> Vec<PathBuf> {
    let entries =
        fs::read_dir(root().join(folder)).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut paths: Vec<PathBuf> = entries.map(|entry| folder.join(entry.unwrap().file_name())).collect();
    paths.sort();
    paths
}

fn is_page(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "md")
}

// === impl Page ===

impl Page {
    /// The page at a path from the root of the checkout.
    #[must_use]
    pub fn read(path: &Path) -> Self {
        let text = fs::read_to_string(root().join(path));
        Self {
            path: path.to_owned(),
            text: text.unwrap_or_else(|error| panic!("{}: {error}", path.display())),
        }
    }

    /// Its lines that are not in a fenced block, with those blocks left out.
    fn prose(&self) -> Vec<At<&str>> {
        let mut prose = Vec::new();
        let mut fence: Option<&str> = None;
        for (at, line) in self.text.lines().enumerate() {
            match (fence, fence_of(line)) {
                (None, Some((ticks, _))) => fence = Some(ticks),
                (None, None) => prose.push(At { line: at + 1, it: line }),
                (Some(open), Some((ticks, ""))) if ticks.len() >= open.len() => fence = None,
                (Some(_), _) => {}
            }
        }
        prose
    }

    /// Its fenced blocks.
    #[must_use]
    pub fn blocks(&self) -> Vec<Block> {
        let mut blocks: Vec<Block> = Vec::new();
        let mut fence: Option<(&str, Block)> = None;
        for (at, line) in self.text.lines().enumerate() {
            fence = match (fence, fence_of(line)) {
                (None, Some((ticks, info))) => {
                    let info = info.split_whitespace().map(str::to_owned).collect();
                    Some((ticks, Block { line: at + 1, info, text: String::new() }))
                }
                (None, None) => None,
                (Some((open, block)), Some((ticks, ""))) if ticks.len() >= open.len() => {
                    blocks.push(block);
                    None
                }
                (Some((open, mut block)), _) => {
                    block.text.push_str(line);
                    block.text.push('\n');
                    Some((open, block))
                }
            };
        }
        assert!(fence.is_none(), "{}: a block has no end", self.path.display());
        blocks
    }

    /// What it shows as code within a line.
    #[must_use]
    pub fn spans(&self) -> Vec<At<String>> {
        let lines = self.prose().into_iter();
        lines
            .flat_map(|At { line, it }| split_code(it).1.into_iter().map(move |it| At { line, it }))
            .collect()
    }

    /// The names by which links lead to its headings.
    #[must_use]
    pub fn anchors(&self) -> Vec<String> {
        let mut seen: BTreeMap<String, usize> = BTreeMap::new();
        let headings = self.headings().into_iter().map(|heading| {
            let name = anchor(&heading.it);
            let times = seen.entry(name.clone()).or_default();
            *times += 1;
            if *times == 1 { name } else { format!("{name}-{}", *times - 1) }
        });
        headings.collect()
    }

    /// Its headings, as they are written.
    #[must_use]
    pub fn headings(&self) -> Vec<At<String>> {
        let lines = self.prose().into_iter();
        let headings = lines.filter_map(|At { line, it }| {
            let text = it.trim_start_matches('#');
            let level = it.len() - text.len();
            (1..=6).contains(&level).then_some(())?;
            Some(At { line, it: text.strip_prefix(' ')?.trim().to_owned() })
        });
        headings.collect()
    }

    /// Where its links and pictures lead.
    #[must_use]
    pub fn links(&self) -> Vec<At<String>> {
        let lines = self.prose().into_iter();
        lines
            .flat_map(|At { line, it }| targets(&split_code(it).0).into_iter().map(move |it| At { line, it }))
            .collect()
    }
}

/// The backticks of a line that begins or ends a block, and what follows them.
fn fence_of(line: &str) -> Option<(&str, &str)> {
    let line = line.trim_start();
    let rest = line.trim_start_matches('`');
    let ticks = &line[..line.len() - rest.len()];
    // Code within a line may begin with three backticks, too, and ends in the same line.
    (ticks.len() >= 3 && !rest.contains('`')).then(|| (ticks, rest.trim()))
}

/// A line without the code in it, and that code.
fn split_code(line: &str) -> (String, Vec<String>) {
    let (mut prose, mut code) = (String::new(), Vec::new());
    let mut rest = line;
    while let Some(at) = rest.find('`') {
        let (before, from) = rest.split_at(at);
        prose.push_str(before);
        let inner = from.trim_start_matches('`');
        let ticks = &from[..from.len() - inner.len()];
        let Some(end) = inner.find(ticks) else { return (prose + from, code) };
        code.push(inner[..end].trim().to_owned());
        rest = &inner[end + ticks.len()..];
    }
    (prose + rest, code)
}

/// What `[text](target)`, `[name]: target` and the attributes of HTML lead to.
fn targets(line: &str) -> Vec<String> {
    let until = |from: &str, end: char| from.split(end).next().unwrap_or_default().to_owned();
    let mut found = Vec::new();
    for (opening, end) in [("](", ')'), ("src=\"", '"'), ("href=\"", '"')] {
        found.extend(line.split(opening).skip(1).map(|from| until(from, end)));
    }
    if let Some((name, target)) = line.split_once("]: ")
        && name.starts_with('[')
    {
        found.push(target.to_owned());
    }
    found.into_iter().filter_map(|target| target.split_whitespace().next().map(str::to_owned)).collect()
}

/// The name by which links lead to a heading.
fn anchor(heading: &str) -> String {
    let (prose, _) = split_code(heading);
    // A link's text is of the heading, its target is not.
    let mut text = String::new();
    let mut rest = heading;
    while prose.contains("](")
        && let Some((before, after)) = rest.split_once("](")
    {
        text.push_str(before);
        rest = after.split_once(')').map_or("", |(_, after)| after);
    }
    text.push_str(rest);
    let letters = text.to_lowercase();
    let kept = letters.chars().filter(|letter| letter.is_alphanumeric() || matches!(letter, ' ' | '-' | '_'));
    kept.map(|letter| if letter == ' ' { '-' } else { letter }).collect()
}

// === impl Block ===

impl Block {
    /// Its language.
    #[must_use]
    pub fn language(&self) -> &str {
        self.word(0)
    }

    /// What proves it: the word after the language.
    #[must_use]
    pub fn proof(&self) -> &str {
        self.word(1)
    }

    /// One of its words; nothing if it has not so many.
    #[must_use]
    pub fn word(&self, at: usize) -> &str {
        self.info.get(at).map_or("", String::as_str)
    }

    /// Its commands.
    #[must_use]
    pub fn steps(&self) -> Vec<Step> {
        let mut steps = Vec::new();
        let mut begun: Option<(usize, String)> = None;
        for (line, text) in (self.line + 1..).zip(self.text.lines()) {
            let (line, text) = match begun.take() {
                Some((line, before)) => (line, format!("{before} {}", text.trim())),
                None => (line, text.trim().to_owned()),
            };
            if let Some(before) = text.strip_suffix('\\') {
                begun = Some((line, before.trim_end().to_owned()));
            } else if !text.is_empty() && !text.starts_with('#') {
                steps.push(Step::new(line, &text));
            }
        }
        assert!(begun.is_none(), "line {}: the last command goes on", self.line);
        steps
    }
}

// === impl Step ===

impl Step {
    fn new(line: usize, text: &str) -> Self {
        let (command, exit) = match text.rsplit_once("# exit ") {
            Some((command, exit)) => (command.trim_end(), exit.trim().parse().unwrap()),
            None => (text, 0),
        };
        Self { line, command: command.to_owned(), exit }
    }

    /// The words of its simple commands: what stands between pipes and the like, without what is redirected.
    #[must_use]
    pub fn simple(&self) -> Vec<Vec<String>> {
        words(&self.command)
    }
}

/// A command's words as a shell would split them, one list for each simple command. What it would put in their place is left
/// as it is.
fn words(command: &str) -> Vec<Vec<String>> {
    let (mut all, mut now, mut word) = (Vec::new(), Vec::new(), None::<String>);
    let (mut quote, mut redirected) = (None::<char>, false);
    let end = |word: &mut Option<String>, now: &mut Vec<String>, redirected: &mut bool| {
        if let Some(word) = word.take()
            && !std::mem::take(redirected)
        {
            now.push(word);
        }
    };
    for letter in command.chars() {
        match (quote, letter) {
            (Some(open), letter) if open == letter => quote = None,
            (Some(_), letter) => word.get_or_insert_default().push(letter),
            (None, '\'' | '"') => {
                word.get_or_insert_default();
                quote = Some(letter);
            }
            (None, '|' | ';' | '&') => {
                end(&mut word, &mut now, &mut redirected);
                all.push(std::mem::take(&mut now));
            }
            (None, '<' | '>') => {
                end(&mut word, &mut now, &mut redirected);
                redirected = true;
            }
            (None, letter) if letter.is_whitespace() => end(&mut word, &mut now, &mut redirected),
            (None, letter) => word.get_or_insert_default().push(letter),
        }
    }
    end(&mut word, &mut now, &mut redirected);
    all.push(now);
    all.retain(|words| !words.is_empty());
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(text: &str) -> Page {
        Page { path: PathBuf::from("page.md"), text: text.to_owned() }
    }

    #[test]
    fn blocks_are_told_from_prose() {
        let page = page(
            "# A `b` [c](d.md)\n\n```sh cli\na \\\n  b # exit 69\n\n# why\nc | d\n```\nsee ``` `x` ``` and [y](z.md#w)\n",
        );
        let blocks = page.blocks();
        assert_eq!(
            (blocks.len(), blocks[0].language(), blocks[0].proof(), blocks[0].line),
            (1, "sh", "cli", 3)
        );
        let steps = blocks[0].steps();
        assert_eq!((steps[0].line, steps[0].command.as_str(), steps[0].exit), (4, "a b", 69));
        assert_eq!((steps[1].line, steps[1].command.as_str(), steps[1].exit), (8, "c | d", 0));
        let links: Vec<String> = page.links().into_iter().map(|link| link.it).collect();
        assert_eq!(links, ["d.md", "z.md#w"]);
        assert_eq!(page.anchors(), ["a-b-c"]);
        assert_eq!(page.spans()[0], At { line: 1, it: "b".to_owned() });
    }

    #[test]
    fn headings_of_one_name_are_numbered() {
        let anchors = page("# What's *new*, 2.0?\n## meshboot node add\n## Same\n### Same\n").anchors();
        assert_eq!(anchors, ["whats-new-20", "meshboot-node-add", "same", "same-1"]);
    }

    #[test]
    fn a_shell_s_words() {
        let split = words("meshboot site new - >site.toml && a 'b c' \"d\"e | f <g ''");
        assert_eq!(split, [vec!["meshboot", "site", "new", "-"], vec!["a", "b c", "de"], vec!["f", ""]]);
    }
}
