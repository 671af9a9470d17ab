use super::*;

const RATE: (&str, &str, Better, Target) = ("rate", "1/s", Better::Higher, Target::Times(1.5));

#[test]
fn a_ratio_is_that_of_each_round_with_its_best_rival() {
    let mut report = Report::default();
    for (ours, one, other) in [(30.0, 10.0, 20.0), (3.0, 1.0, 1.0), (8.0, 4.0, 1.0)] {
        report.enter(RATE, OURS, ours);
        report.enter(RATE, "one", one);
        report.enter(RATE, "other", other);
        for beside in ["meshboot, otherwise"].into_iter().chain(BESIDE) {
            report.enter(RATE, beside, 1000.0);
        }
    }
    assert_eq!(report.rows[0].ratio(), Some(2.0));
    assert_eq!(report.rows[0].met(), Some(true));
    assert!(report.table().contains("at least 1.5 times: met"), "{}", report.table());
}

#[test]
fn less_is_better_where_it_is() {
    let mut report = Report::default();
    let row = ("delay", "ms", Better::Lower, Target::Below(1.0));
    report.enter(row, OURS, 0.5);
    report.enter(row, "one", 2.0);
    assert_eq!((report.rows[0].ratio(), report.rows[0].met()), (Some(4.0), Some(true)));
}

#[test]
fn medians() {
    let Summary { median, min, max } = summary(&[3.0, 1.0, 2.0, 10.0]);
    assert_eq!((median, min, max), (2.5, 1.0, 10.0));
    assert_eq!(summary(&[7.0]).median, 7.0);
    assert!(summary(&[]).median.is_nan());
}
