use std::os::unix::fs::PermissionsExt as _;

use proptest::prelude::*;

use super::*;

fn place() -> (tempfile::TempDir, Directory) {
    let folder = tempfile::tempdir().unwrap();
    let directory = Directory::new(folder.path()).unwrap();
    (folder, directory)
}

fn noted(text: &str) -> Entry {
    Entry { at: 1_764_446_400_123_456, act: Act::Noted { machines: Vec::new(), text: text.to_owned() } }
}

fn texts(journal: &Journal) -> Vec<&str> {
    journal.entries.iter().filter_map(noted_text).collect()
}

fn noted_text(entry: &Entry) -> Option<&str> {
    if let Act::Noted { text, .. } = &entry.act { Some(text) } else { None }
}

#[test]
fn the_form_is_the_one_that_is_told() {
    let (_folder, directory) = place();
    let fault = Fault {
        id: "f1".to_owned(),
        kind: "link cut".to_owned(),
        machines: vec!["node1".to_owned(), "node3".to_owned()],
        text: "cut the cable node1-node3".to_owned(),
        until: None,
    };
    let injected = Entry { at: 1_764_446_400_123_456, act: Act::FaultInjected(fault) };
    let undone = Act::FaultUndone { id: "f1".to_owned(), why: "its time was over".to_owned() };
    let undone = Entry { at: 1_764_446_430_123_456, act: undone };
    for entry in [&injected, &undone] {
        Journal::append(&directory, entry.clone()).unwrap();
    }
    let path = directory.path().join(FILE);
    let text = fs::read_to_string(&path).unwrap();
    let told = include_str!("../journal.rs");
    for line in text.lines() {
        assert!(told.contains(line), "not in the module's documentation: {line}");
    }
    assert_eq!(Journal::read(&directory).unwrap(), Journal { entries: vec![injected, undone], damaged: 0 });
    assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn a_deployment_without_a_journal_has_an_empty_one() {
    let (_folder, directory) = place();
    assert_eq!(Journal::read(&directory).unwrap(), Journal::default());
}

#[test]
fn a_directory_that_is_not_there_is_named() {
    let (_folder, directory) = place();
    let gone = Directory::new(&directory.path().join("no/where")).unwrap();
    let error = Journal::append(&gone, noted("x")).unwrap_err();
    assert!(format!("{error:#}").contains("no/where/journal.jsonl"), "{error:#}");
}

#[test]
fn what_a_later_program_wrote_is_counted_and_no_more() {
    let (_folder, directory) = place();
    Journal::append(&directory, noted("before")).unwrap();
    let path = directory.path().join(FILE);
    let mut file = OpenOptions::new().append(true).open(path).unwrap();
    file.write_all(b"{\"at\":1,\"act\":\"machine-painted\",\"colour\":\"red\"}\n\n").unwrap();
    Journal::append(&directory, noted("after")).unwrap();
    let journal = Journal::read(&directory).unwrap();
    assert_eq!((texts(&journal), journal.damaged), (vec!["before", "after"], 1));
}

#[test]
fn a_long_journal_is_put_away_and_the_one_before_it_given_up() {
    let (_folder, directory) = place();
    let long = "x".repeat(1 << 20);
    for _ in 0..12 {
        Journal::append(&directory, noted(&long)).unwrap();
    }
    Journal::append(&directory, noted("last")).unwrap();
    let size = |name| directory.path().join(name).metadata().unwrap().len();
    // One line may go over the bound.
    assert!(size(FILE) <= MAX_SIZE + (2 << 20) && size(BEFORE) <= MAX_SIZE + (2 << 20));
    let journal = Journal::read(&directory).unwrap();
    assert_eq!(texts(&journal).last(), Some(&"last"));
    assert!(journal.entries.len() >= 5, "the one before is read too: {}", journal.entries.len());
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 2);
}

#[test]
fn many_writers_lose_nothing() {
    let (_folder, directory) = place();
    let writers: Vec<_> = (0..8)
        .map(|writer| {
            let directory = directory.clone();
            std::thread::spawn(move || {
                for line in 0..25 {
                    Journal::append(&directory, noted(&format!("{writer}/{line}"))).unwrap();
                }
            })
        })
        .collect();
    writers.into_iter().for_each(|writer| writer.join().unwrap());
    let journal = Journal::read(&directory).unwrap();
    let mut seen = texts(&journal);
    seen.sort_unstable();
    seen.dedup();
    assert_eq!((seen.len(), journal.damaged), (200, 0));
}

#[test]
fn a_writer_that_never_ends_is_not_waited_for_for_ever() {
    let (_folder, directory) = place();
    Journal::append(&directory, noted("first")).unwrap();
    let held = open(&directory.path().join(FILE)).unwrap();
    held.lock().unwrap();
    let error = lock(&open(&directory.path().join(FILE)).unwrap(), Instant::now()).unwrap_err();
    assert!(error.to_string().contains("locked"), "{error}");
}

proptest! {
    /// Wherever the writer of a line died, every other line is there, and the next one too.
    #[test]
    fn a_torn_line_is_the_only_one_lost(lines in 1_usize..6, torn in 1_usize..200) {
        let (_folder, directory) = place();
        for line in 0..lines {
            Journal::append(&directory, noted(&line.to_string())).unwrap();
        }
        let path = directory.path().join(FILE);
        let octets = fs::read(&path).unwrap();
        let whole = octets.len() / lines;
        let torn = torn % whole;
        fs::write(&path, &octets[..octets.len() - torn]).unwrap();
        Journal::append(&directory, noted("next")).unwrap();
        let journal = Journal::read(&directory).unwrap();
        // Without its end of line alone a line is whole.
        let lost = usize::from(torn > 1);
        prop_assert_eq!(journal.entries.len(), lines - lost + 1);
        prop_assert_eq!(journal.damaged, lost);
        prop_assert_eq!(texts(&journal).last().copied(), Some("next"));
    }

    /// No octets make a reader fail.
    #[test]
    fn whatever_is_in_the_file_can_be_read(octets in prop::collection::vec(any::<u8>(), 0..400)) {
        let mut journal = Journal::default();
        journal.take(&octets);
    }
}
