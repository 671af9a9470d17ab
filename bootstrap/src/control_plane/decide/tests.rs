use super::*;

mod world;

fn name(name: &str) -> NodeName {
    name.parse().unwrap()
}

fn peer(node: &str) -> String {
    format!("https://[{node}]:2380")
}

fn node(of: &str) -> Node {
    Node {
        name: name(of),
        peer: peer(of),
        ready: true,
        marked: false,
        leaves: false,
        left: false,
        report: Some(Found::default()),
        ticket: None,
        serves: false,
    }
}

/// A node that is a whole control plane.
fn control_plane(of: &str, id: u64) -> Node {
    let report = Some(Found { member: Some(MemberId(id)), trouble: None });
    Node { marked: true, serves: true, report, ..node(of) }
}

fn seed() -> Node {
    Node { report: None, ..control_plane("seed", 1) }
}

fn voice(of: &str, id: u64) -> Voice {
    let member = Member { id: MemberId(id), name: of.to_owned(), peers: vec![peer(of)], learner: false };
    Voice { member, answers: true }
}

fn learner(of: &str, id: u64) -> Voice {
    let mut voice = voice(of, id);
    voice.member.learner = true;
    voice.member.name.clear();
    voice.answers = false;
    voice
}

fn observed(nodes: Vec<Node>, members: Vec<Voice>) -> Observed {
    let wanted = ["node1", "node2"].map(name).into();
    Observed { wanted, nodes, members, begun: None }
}

fn after(seen: &Observed, spent: Duration) -> Decision {
    decide(seen, &name("seed"), spent, &BTreeSet::new())
}

fn next(seen: &Observed) -> Step {
    after(seen, Duration::ZERO).step
}

#[test]
fn one_alone_waits_for_another() {
    let mut seen = observed(vec![seed(), node("node1")], vec![voice("seed", 1)]);
    let decision = after(&seen, Duration::ZERO);
    assert_eq!(decision.step, Step::Rest);
    assert!(decision.waits[&name("node1")].starts_with("another one is needed"), "{decision:?}");
    assert_eq!(decision.waits[&name("node2")], "it has not joined yet");
    seen.nodes.push(node("node2"));
    assert_eq!(next(&seen), Step::Begin(name("node1")));
    seen.nodes[1].ready = false;
    assert_eq!(next(&seen), Step::Rest, "one alone again");
}

#[test]
fn a_node_goes_from_ready_to_control_plane_step_by_step() {
    let mut seen = observed(vec![seed(), node("node1"), node("node2")], vec![voice("seed", 1)]);
    let node1 = name("node1");
    seen.begun = Some(node1.clone());
    assert_eq!(next(&seen), Step::Enter(node1.clone()));
    seen.members.push(learner("node1", 7));
    assert_eq!(next(&seen), Step::Ticket(node1.clone(), MemberId(7)));
    seen.nodes[1].ticket = Some(MemberId(7));
    assert_eq!(next(&seen), Step::Rest, "its static pods may be torn by a power cut");
    seen.members[1].answers = true;
    assert_eq!(next(&seen), Step::Rest, "that it runs does not say what is on the disk");
    seen.nodes[1].report = Some(Found { member: Some(MemberId(7)), trouble: None });
    seen.members[1].answers = false;
    assert_eq!(next(&seen), Step::Rest, "it does not run");
    seen.members[1].answers = true;
    assert_eq!(next(&seen), Step::Vote(node1.clone(), MemberId(7)));
    seen.members[1].member.learner = false;
    assert_eq!(next(&seen), Step::Rest, "nobody is sent to an API server that is not ready");
    seen.nodes[1].serves = true;
    assert_eq!(next(&seen), Step::Mark(node1.clone()));
    seen.nodes[1].marked = true;
    let decision = after(&seen, Duration::ZERO);
    assert_eq!(decision.step, Step::Finish(node1.clone()));
    assert!(!decision.waits.contains_key(&node1), "it waits for nothing: {decision:?}");
    seen.begun = None;
    assert_eq!(next(&seen), Step::Begin(name("node2")), "two members are worse than one");
}

#[test]
fn nothing_is_begun_and_nobody_gets_a_vote_while_a_member_is_silent() {
    let nodes =
        vec![seed(), control_plane("node1", 7), control_plane("node2", 8), node("node3"), node("node4")];
    let members = vec![voice("seed", 1), voice("node1", 7), voice("node2", 8)];
    let mut seen = observed(nodes, members);
    seen.wanted.extend(["node3", "node4"].map(name));
    assert_eq!(next(&seen), Step::Begin(name("node3")));
    seen.members[1].answers = false;
    let decision = after(&seen, Duration::ZERO);
    assert_eq!(decision.step, Step::Rest);
    assert_eq!(decision.waits[&name("node3")], "the etcd of node1 does not answer");
    seen.begun = Some(name("node3"));
    assert_eq!(next(&seen), Step::Rest);
    let id = MemberId(9);
    seen.members.push(Voice { answers: true, ..learner("node3", 9) });
    seen.nodes[3].report = Some(Found { member: Some(id), trouble: None });
    seen.nodes[3].ticket = Some(id);
    assert_eq!(next(&seen), Step::Rest);
    seen.members[1].answers = true;
    assert_eq!(next(&seen), Step::Vote(name("node3"), id));
}

#[test]
fn what_does_not_finish_is_undone() {
    let mut seen = observed(vec![seed(), node("node1"), node("node2")], vec![voice("seed", 1)]);
    let node1 = name("node1");
    seen.begun = Some(node1.clone());
    let late = |seen: &Observed| after(seen, LIMIT).step;
    assert_eq!(late(&seen), Step::Abandon(node1.clone(), None));
    seen.members.push(learner("node1", 7));
    assert_eq!(late(&seen), Step::Abandon(node1.clone(), Some(MemberId(7))));
    // A member with a vote that does its part stays, also if its API server does not come.
    seen.members[1] = voice("node1", 7);
    seen.nodes[1].report = Some(Found { member: Some(MemberId(7)), trouble: None });
    assert_eq!(late(&seen), Step::Finish(node1.clone()));
    seen.begun = None;
    seen.nodes[1].serves = true;
    assert_eq!(next(&seen), Step::Mark(node1.clone()), "late, but all the same");
    // One that was given up waits until it is tried again.
    let seen =
        observed(vec![seed(), node("node1"), node("node2")], vec![voice("seed", 1), voice("node3", 9)]);
    let decision = decide(&seen, &name("seed"), Duration::ZERO, &BTreeSet::from([node1.clone()]));
    assert_eq!(decision.step, Step::Begin(name("node2")));
    assert!(decision.waits[&node1].contains("given up"));
}

#[test]
fn a_node_that_is_gone_or_not_wanted_any_more_is_not_waited_for() {
    let mut seen = observed(vec![seed(), node("node2")], vec![voice("seed", 1), learner("node1", 7)]);
    seen.begun = Some(name("node1"));
    assert_eq!(next(&seen), Step::Abandon(name("node1"), None));
    seen.begun = None;
    assert_eq!(next(&seen), Step::Remove(MemberId(7), Removal::Forgotten));
    let mut seen = observed(vec![seed(), node("node1")], vec![voice("seed", 1), learner("node1", 7)]);
    seen.wanted.clear();
    seen.begun = Some(name("node1"));
    assert_eq!(next(&seen), Step::Abandon(name("node1"), Some(MemberId(7))));
}

fn three() -> Observed {
    let nodes = vec![seed(), control_plane("node1", 7), control_plane("node2", 8)];
    observed(nodes, vec![voice("seed", 1), voice("node1", 7), voice("node2", 8)])
}

#[test]
fn three_that_are_well_rest_and_so_do_they_while_one_is_off() {
    let mut seen = three();
    assert_eq!(after(&seen, Duration::ZERO), Decision { step: Step::Rest, waits: BTreeMap::new() });
    seen.members[1].answers = false;
    seen.nodes[1].ready = false;
    assert_eq!(next(&seen), Step::Rest);
    // It starts: its node is Ready from before, its etcd is not there yet, its gateway has said nothing in this boot.
    seen.nodes[1].ready = true;
    seen.nodes[1].report = None;
    assert_eq!(next(&seen), Step::Rest);
    seen.members[0].answers = false;
    seen.nodes[0].ready = false;
    assert_eq!(decide(&seen, &name("node2"), Duration::ZERO, &BTreeSet::new()).step, Step::Rest);
}

#[test]
fn a_disk_that_was_wiped_is_noticed_and_only_if_its_member_is_silent() {
    let mut seen = three();
    seen.nodes[1].report = Some(Found::default());
    assert_eq!(next(&seen), Step::Rest, "somebody says he is node1, and its etcd runs");
    seen.members[1].answers = false;
    assert_eq!(next(&seen), Step::Remove(MemberId(7), Removal::Wiped(name("node1"))));
    seen.nodes[1].ready = false;
    assert_eq!(next(&seen), Step::Rest, "who is not Ready says nothing");
    seen.nodes[1].ready = true;
    seen.members[2].answers = false;
    let decision = after(&seen, Duration::ZERO);
    assert_eq!(decision.step, Step::Rest, "one of two that are left is no majority");
    assert!(decision.waits[&name("node1")].contains("too few"));
    // The member is gone: the node is one like any other, and makes the number odd again.
    seen.members[2].answers = true;
    seen.members.remove(1);
    assert_eq!(next(&seen), Step::Begin(name("node1")));
}

#[test]
fn a_member_without_a_node_goes_when_it_is_silent() {
    let mut seen = three();
    seen.nodes.remove(2);
    assert_eq!(next(&seen), Step::Rest);
    seen.members[2].answers = false;
    assert_eq!(next(&seen), Step::Remove(MemberId(8), Removal::NoNode));
}

#[test]
fn who_is_told_to_leave_leaves_unless_it_is_the_last() {
    let mut seen = three();
    seen.nodes[2].leaves = true;
    assert_eq!(next(&seen), Step::Remove(MemberId(8), Removal::Leaves(name("node2"))));
    seen.members[1].answers = false;
    assert_eq!(next(&seen), Step::Rest, "the seed alone is no majority of two");
    seen.members.remove(1);
    seen.members.remove(1);
    assert_eq!(next(&seen), Step::Left(name("node2")));
    seen.nodes[2].leaves = false;
    seen.nodes[2].left = true;
    seen.nodes[1] = node("node1");
    assert_eq!(next(&seen), Step::Rest, "it is no candidate, and node1 alone is not enough");
    seen.nodes[0].leaves = true;
    assert_eq!(next(&seen), Step::Keep(name("seed")));
    let mut seen = observed(vec![seed(), node("node1")], vec![voice("seed", 1), learner("node1", 7)]);
    seen.begun = Some(name("node1"));
    seen.nodes[1].leaves = true;
    assert_eq!(next(&seen), Step::Abandon(name("node1"), Some(MemberId(7))));
}

#[test]
fn a_promoter_that_does_not_see_itself_does_nothing() {
    let mut seen = three();
    seen.nodes.clear();
    for voice in &mut seen.members {
        voice.answers = false;
    }
    let decision = after(&seen, Duration::ZERO);
    assert_eq!(decision.step, Step::Rest);
    assert!(decision.waits[&name("node1")].contains("seed"));
}
