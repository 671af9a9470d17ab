//! Links lead somewhere.

use std::collections::BTreeSet;
use std::path::{Component, Path, PathBuf};

use tests::book::{Page, pages, root};

const BOOK: &str = "docs/src";

#[test]
fn every_link_leads_somewhere() {
    let mut wrong = Vec::new();
    let mut followed = 0;
    for page in pages() {
        for link in page.links() {
            if link.it.contains("://") {
                continue;
            }
            followed += 1;
            if let Err(reason) = follow(&page, &link.it) {
                wrong.push(format!("{}:{}: {}: {reason}", page.path.display(), link.line, link.it));
            }
        }
    }
    assert_eq!(wrong, [""; 0]);
    assert!(followed > 40, "{followed} links");
}

fn follow(page: &Page, link: &str) -> Result<(), String> {
    let (path, anchor) = link.split_once('#').map_or((link, None), |(path, anchor)| (path, Some(anchor)));
    let path = match path {
        "" => page.path.clone(),
        path => flat(&page.path.parent().unwrap_or_else(|| Path::new("")).join(path)),
    };
    if page.path.starts_with(BOOK) && !path.starts_with(BOOK) {
        return Err("it leaves the book, which is read without the checkout, too".to_owned());
    }
    if !root().join(&path).exists() {
        return Err(format!("there is no {}", path.display()));
    }
    let Some(anchor) = anchor else { return Ok(()) };
    let anchors = included(&Page::read(&path)).anchors();
    if anchors.iter().any(|one| one == anchor) {
        Ok(())
    } else {
        Err(format!("{} has no such heading: it has {}", path.display(), anchors.join(", ")))
    }
}

/// A page of the book with what mdBook puts into it.
fn included(page: &Page) -> Page {
    let lines = page.text.lines().map(|line| {
        let other = line.strip_prefix("{{#include ").and_then(|rest| rest.strip_suffix("}}"));
        other.map_or_else(
            || line.to_owned(),
            |other| Page::read(&flat(&page.path.parent().unwrap_or_else(|| Path::new("")).join(other))).text,
        )
    });
    Page { path: page.path.clone(), text: lines.collect::<Vec<_>>().join("\n") }
}

/// A path without `..`.
fn flat(path: &Path) -> PathBuf {
    let mut flat = PathBuf::new();
    for part in path.components() {
        if part == Component::ParentDir {
            flat.pop();
        } else {
            flat.push(part);
        }
    }
    flat
}

/// mdBook leaves out what its summary does not name.
#[test]
fn the_summary_names_every_page_once() {
    let summary = Page::read(&Path::new(BOOK).join("SUMMARY.md"));
    let named: Vec<PathBuf> = summary.links().iter().map(|link| Path::new(BOOK).join(&link.it)).collect();
    let unique: BTreeSet<PathBuf> = named.iter().cloned().collect();
    assert_eq!(named.len(), unique.len(), "a page is named twice: {named:?}");
    let book = pages().into_iter().map(|page| page.path).filter(|path| path.starts_with(BOOK));
    let there: BTreeSet<PathBuf> = book.filter(|path| *path != summary.path).collect();
    assert_eq!(there, unique);
}
