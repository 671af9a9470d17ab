use std::sync::Mutex;

use super::*;

#[derive(Default)]
struct Lines(Mutex<Vec<String>>);

impl Progress for Lines {
    fn stage(&self, _name: &str) {}
    fn advance(&self, _done: u64, _total: Option<u64>) {}
    fn line(&self, text: &str) {
        self.0.lock().unwrap().push(text.to_owned());
    }
}

fn shell(script: &str) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", script]);
    command
}

#[tokio::test]
async fn an_error_shows_the_end_of_the_output_and_where_the_rest_is() {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("logs/build.log");
    let lines = Lines::default();
    let runner = Runner::new(&log, &lines).unwrap();
    let error = runner.run(&mut shell("(seq 1 40; echo no room) >&2; exit 3")).await.unwrap_err();
    let text = error.to_string();
    assert!(text.contains("no room") && text.contains("40") && !text.contains(" 2\n"), "{text}");
    assert!(text.contains(&log.display().to_string()), "{text}");
    assert_eq!(lines.0.lock().unwrap().len(), 41);
    assert!(std::fs::read_to_string(&log).unwrap().contains("no room"));
}

#[tokio::test]
async fn output_is_given_whole() {
    let dir = tempfile::tempdir().unwrap();
    let runner = Runner::new(&dir.path().join("log"), &()).unwrap();
    assert_eq!(runner.output(&mut shell("echo one; echo two")).await.unwrap(), "one\ntwo\n");
}

#[tokio::test]
async fn a_missing_tool_is_named_with_its_package() {
    let dir = tempfile::tempdir().unwrap();
    let runner = Runner::new(&dir.path().join("log"), &()).unwrap();
    let mut command = Command::new("mmdebstrap");
    command.env("PATH", "/nonexistent");
    let error = runner.run(&mut command).await.unwrap_err();
    assert_eq!(error.to_string(), "mmdebstrap is not installed (Debian package mmdebstrap)");
}
