//! How experiments go, whatever happens.

use super::*;

/// Feeds a course until it ends, and tells what it wanted done. `happens` says what comes of each act.
fn go(experiment: &Experiment, mut happens: impl FnMut(&Act, Duration) -> Input) -> (Vec<String>, Course) {
    let mut course = Course::new(experiment.steps.clone());
    let (mut now, mut acts, mut input) = (Duration::ZERO, Vec::new(), Input::Done);
    for _ in 0..10_000 {
        let act = course.next(input, now);
        match &act {
            Act::End => return (acts, course),
            Act::Sleep(time) => now += *time,
            Act::Ask(_) => now += Duration::from_millis(10),
            Act::Make(_) => acts.push("make".to_owned()),
            Act::Undo(id) => acts.push(format!("undo {id}")),
            Act::Taint(tainted) => acts.push(format!("taint {}", tainted.node)),
            Act::Untaint(tainted) => acts.push(format!("untaint {}", tainted.node)),
            Act::Create(object) => {
                acts.push(format!("create {}", object["metadata"]["name"].as_str().unwrap()))
            }
            Act::Remove(object) => {
                acts.push(format!("remove {}", object["metadata"]["name"].as_str().unwrap()))
            }
            Act::Begin(probe) => acts.push(format!("begin {probe}")),
        }
        input = happens(&act, now);
    }
    panic!("it does not end: {acts:?}");
}

fn all_goes_well(act: &Act, now: Duration) -> Input {
    match act {
        Act::Make(_) => Input::Made("f1".to_owned()),
        Act::Ask(_) if now < Duration::from_secs(40) => Input::NotYet("it is Ready".to_owned()),
        Act::Ask(_)
        | Act::Undo(_)
        | Act::Taint(_)
        | Act::Untaint(_)
        | Act::Create(_)
        | Act::Remove(_)
        | Act::Sleep(_)
        | Act::Begin(_)
        | Act::End => Input::Done,
    }
}

#[test]
fn steps_are_done_in_order_and_what_was_made_is_removed() {
    let (acts, course) = go(&good(GOOD), all_goes_well);
    assert_eq!(acts, ["create try-node2", "begin web", "make", "undo f1", "remove try-node2"]);
    assert_eq!(course.failure, None);
    assert_eq!(course.marks["plug"], Duration::ZERO);
    let waited = course.marks["not-ready"];
    assert!((Duration::from_secs(40)..Duration::from_secs(41)).contains(&waited), "{waited:?}");
    assert_eq!(course.marks["power"], waited);
}

#[test]
fn what_is_waited_for_in_vain_ends_it_and_the_fault_is_undone() {
    let (acts, course) = go(&good(GOOD), |act, now| {
        if matches!(act, Act::Ask(_)) {
            return Input::NotYet("it is Ready".to_owned());
        }
        all_goes_well(act, now)
    });
    assert_eq!(acts, ["create try-node2", "begin web", "make", "undo f1", "remove try-node2"]);
    let failure = course.failure.unwrap();
    assert!(failure.starts_with("line 12: not within 2m: node2 is NotReady: it is Ready"), "{failure}");
    assert!(!course.marks.contains_key("power"));
}

#[test]
fn an_interruption_at_any_moment_leaves_nothing() {
    for moment in 0..200 {
        let mut count = 0;
        let mut standing = false;
        let mut made = false;
        let (_, course) = go(&good(GOOD), |act, now| {
            match act {
                Act::Make(_) => standing = true,
                Act::Undo(_) => standing = false,
                Act::Create(_) => made = true,
                Act::Remove(_) => made = false,
                Act::Ask(_) | Act::Sleep(_) | Act::Begin(_) | Act::Taint(_) | Act::Untaint(_) | Act::End => {}
            }
            count += 1;
            let may_be_cut = matches!(act, Act::Ask(_) | Act::Sleep(_) | Act::Begin(_));
            if count > moment && may_be_cut { Input::Interrupted } else { all_goes_well(act, now) }
        });
        assert!(!standing && !made, "{moment}");
        assert!(course.left.is_empty());
    }
}

#[test]
fn what_cannot_be_done_ends_it_and_what_cannot_be_put_right_is_told() {
    let failing = |wanted: &'static str| {
        go(&good(GOOD), move |act, now| {
            let fails = match act {
                Act::Make(_) => wanted == "make",
                Act::Create(_) => wanted == "create",
                Act::Undo(_) => wanted == "undo",
                Act::Remove(_) => wanted == "remove",
                Act::Ask(_) | Act::Sleep(_) | Act::Begin(_) | Act::Taint(_) | Act::Untaint(_) | Act::End => {
                    false
                }
            };
            if fails { Input::Failed("no way".to_owned()) } else { all_goes_well(act, now) }
        })
    };
    let (acts, course) = failing("make");
    assert_eq!(acts, ["create try-node2", "begin web", "make", "remove try-node2"]);
    assert_eq!(course.failure.as_deref(), Some("line 11: no way"));
    // Nobody knows how far that came.
    let (acts, _) = failing("create");
    assert_eq!(acts, ["create try-node2", "remove try-node2"]);
    let (_, course) = failing("undo");
    assert_eq!(course.failure.as_deref(), Some("line 13: no way"));
    let (acts, course) = failing("remove");
    assert_eq!((course.failure, course.left), (None, vec!["no way".to_owned()]));
    assert_eq!(acts.last().unwrap(), "remove try-node2");
}

#[test]
fn faults_that_nobody_undoes_are_undone_at_the_end_the_last_one_first() {
    let text = "name: x\nsteps:\n  - {fault: node kill a}\n  - {fault: node kill b}\n";
    let mut number = 0;
    let (acts, _) = go(&good(text), |act, now| {
        if matches!(act, Act::Make(_)) {
            number += 1;
            return Input::Made(format!("f{number}"));
        }
        all_goes_well(act, now)
    });
    assert_eq!(acts, ["make", "make", "undo f2", "undo f1"]);
}

#[test]
fn a_taint_is_taken_away_by_a_step_or_at_the_end() {
    let text = |rest: &str| {
        format!(
            "name: x\nsteps:\n  - {{name: a, taint: 'n1 a=b:NoSchedule'}}\n  - {{taint: 'n2 c:NoExecute'}}\n{rest}"
        )
    };
    let (acts, course) = go(&good(&text("  - {undo: a}\n")), all_goes_well);
    assert_eq!(acts, ["taint n1", "taint n2", "untaint n1", "untaint n2"]);
    assert_eq!((course.failure, course.marks.len()), (None, 1));
    let (acts, course) = go(&good(&text("  - {undo: a}\n  - {undo: a}\n")), all_goes_well);
    assert_eq!(acts, ["taint n1", "taint n2", "untaint n1", "untaint n2"]);
    assert_eq!(course.failure.as_deref(), Some("line 6: `a` did nothing that stands"));
    // Nobody knows how far that came.
    let (acts, _) = go(&good(&text("")), |act, now| {
        if matches!(act, Act::Taint(_)) {
            return Input::Failed("no way".to_owned());
        }
        all_goes_well(act, now)
    });
    assert_eq!(acts, ["taint n1", "untaint n1"]);
}

#[test]
fn every_object_of_a_step_is_made_and_removed() {
    let object = |name| format!("{{apiVersion: v1, kind: Pod, metadata: {{name: {name}}}}}");
    let text = format!("name: x\nsteps:\n  - {{name: all, create: [{}, {}]}}\n", object("a"), object("b"));
    let (acts, course) = go(&good(&text), all_goes_well);
    assert_eq!(acts, ["create a", "create b", "remove b", "remove a"]);
    assert!(course.marks.contains_key("all"));
}
