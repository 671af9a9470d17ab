//! What came of it.

use super::super::trace::{Question, Trace};
use super::*;

fn trace(answers: &[(u64, bool)]) -> Trace {
    let mut trace = Trace::default();
    for (at, answered) in answers {
        let took = answered.then_some(Duration::from_millis(7));
        trace.push(Question { at: Duration::from_millis(*at), took });
    }
    trace
}

fn gap(trace: &Trace) -> Option<(u128, u128)> {
    trace.longest_gap().map(|(gap, begins)| (gap.as_millis(), begins.as_millis()))
}

#[test]
fn a_silence_lasts_from_one_answer_to_the_next() {
    assert_eq!(gap(&trace(&[])), None);
    assert_eq!(
        gap(&trace(&[(0, true), (100, true), (200, false), (300, false), (400, true)])),
        Some((300, 100))
    );
    // At both ends from the first and to the last question.
    assert_eq!(gap(&trace(&[(0, false), (500, true), (600, true)])), Some((500, 0)));
    assert_eq!(gap(&trace(&[(0, true), (100, true), (900, false)])), Some((800, 100)));
    assert_eq!(gap(&trace(&[(0, false), (900, false)])), Some((900, 0)));
    // Answers may come in any order.
    assert_eq!(gap(&trace(&[(400, true), (0, true), (100, true)])), Some((300, 100)));
    assert_eq!(
        gap(&trace(&[(0, true), (100, false), (200, true), (900, true)])
            .between(Duration::from_millis(0), Duration::from_millis(200))),
        Some((200, 0))
    );
}

#[test]
fn all_is_well_since_the_last_question_without_an_answer() {
    let calm = |answers: &[(u64, bool)]| trace(answers).answered_for().as_secs();
    assert_eq!(calm(&[]), 0);
    assert_eq!(calm(&[(5_000, true), (8_000, true)]), 3);
    assert_eq!(calm(&[(5_000, true), (6_000, false), (7_000, true), (9_000, true)]), 3);
    assert_eq!(calm(&[(5_000, true), (19_000, false)]), 0);
}

#[test]
fn a_tally_tells_how_many_and_how_fast() {
    let tally = trace(&[(0, true), (100, false), (200, true)]).tally("web");
    assert_eq!((tally.asked, tally.answered, tally.median), (3, 2, Some(7)));
    assert_eq!((tally.longest_gap, tally.gap_begins), (200, Some(0)));
    assert_eq!(trace(&[]).answered(), None);
    assert_eq!(trace(&[(0, true), (1, false)]).answered(), Some(50.0));
}

fn report(marks: &[(&str, u64)], web: &[(u64, bool)], failure: Option<&str>) -> Report {
    let experiment = good(GOOD);
    let mut course = Course::new(experiment.steps.clone());
    course.marks = marks.iter().map(|(name, at)| ((*name).to_owned(), Duration::from_secs(*at))).collect();
    course.failure = failure.map(str::to_owned);
    let traces = BTreeMap::from([("web".to_owned(), trace(web))]);
    Report::new(&experiment, &course, &traces, (1_764_446_400_000_000, Duration::from_millis(61_500)))
}

#[test]
fn what_is_within_its_bounds_passes() {
    let report =
        report(&[("plug", 5), ("not-ready", 46), ("power", 47)], &[(0, true), (61_000, false)], None);
    assert!(report.passed && report.shortcoming().is_none(), "{report:?}");
    let text = report.text();
    for told in [
        "try: passed after 61.5 s",
        "+46.0 s  not-ready",
        "41.0 s",
        "at most 60.0 s",
        "1 of 2 answered",
        "50.0 %",
    ] {
        assert!(text.contains(told), "no `{told}` in\n{text}");
    }
}

#[test]
fn what_is_out_of_bounds_or_was_not_measured_does_not() {
    let slow = report(&[("plug", 5), ("not-ready", 66)], &[(61_000, true)], None);
    assert_eq!(slow.shortcoming().unwrap(), "not as expected: from plug to not-ready");
    let never = report(&[("plug", 5)], &[(0, true)], Some("line 12: not within 2m"));
    assert!(!never.passed);
    assert_eq!(never.shortcoming().unwrap(), "line 12: not within 2m");
    assert_eq!(never.expectations[0].measured, None);
    assert!(never.text().contains("not measured"), "{}", never.text());
    let deaf = report(&[("plug", 5), ("not-ready", 6)], &[(61_000, false)], None);
    assert_eq!(deaf.shortcoming().unwrap(), "not as expected: answers of web");
    // All that it asked was answered, and then it asked nothing more.
    let lost = report(&[("plug", 5), ("not-ready", 6)], &[(0, true), (40_000, true)], None);
    assert_eq!(lost.shortcoming().unwrap(), "not as expected: answers of web");
    assert_eq!(lost.expectations.iter().filter(|verdict| verdict.measured.is_none()).count(), 1);
}

#[test]
fn what_could_not_be_put_right_is_no_success() {
    let experiment = good(GOOD);
    let mut course = Course::new(experiment.steps.clone());
    course.marks =
        [("plug", 5), ("not-ready", 46)].map(|(name, at)| (name.to_owned(), Duration::from_secs(at))).into();
    course.left = vec!["the plug of node2".to_owned()];
    let traces = BTreeMap::from([("web".to_owned(), trace(&[(61_000, true)]))]);
    let report = Report::new(&experiment, &course, &traces, (0, Duration::from_millis(61_500)));
    assert!(!report.passed && report.expectations.iter().all(|verdict| verdict.holds), "{report:?}");
    assert_eq!(report.shortcoming().unwrap(), "could not be put right: the plug of node2");
}

#[test]
fn the_result_is_told_to_programs_in_milliseconds() {
    let report = report(&[("plug", 5), ("not-ready", 46)], &[(61_000, true)], None);
    let value = serde_json::to_value(&report).unwrap();
    assert_eq!(value["marks"][1], json!({"name": "not-ready", "text": "node2 is NotReady", "at": 46_000}));
    assert_eq!(value["expectations"][0]["measured"], 41_000.0);
    assert_eq!(value["expectations"][0]["unit"], "ms");
    assert_eq!(value["took"], 61_500);
}
