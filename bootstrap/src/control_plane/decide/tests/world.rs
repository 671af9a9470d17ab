//! A cluster in which machines die, come back and lose their disks at any moment, and in which the promoter may be struck
//! down between any two things that a step does.

use proptest::prelude::*;

use super::*;

const NAMES: [&str; 5] = ["seed", "node1", "node2", "node3", "node4"];

#[derive(Debug, Clone, Default)]
struct Machine {
    on: bool,
    /// What its disk has become: the ticket that it carried out as a whole.
    disk: Option<u64>,
    ticket: Option<u64>,
    marked: bool,
}

/// A member of etcd: its number, its machine, and whether it has no vote.
#[derive(Debug, Clone, Copy)]
struct Entry {
    id: u64,
    machine: usize,
    learner: bool,
}

#[derive(Debug, Clone)]
struct World {
    machines: Vec<Machine>,
    members: Vec<Entry>,
    begun: Option<usize>,
    spent: Duration,
    next_id: u64,
}

#[derive(Debug, Clone, Copy)]
enum Act {
    /// One pass of the promoter; it dies after so many of the step's parts.
    Pass(u8),
    /// The machine carries out its ticket.
    Become(usize),
    Off(usize),
    On(usize),
    /// On, with an empty disk.
    Wipe(usize),
    Wait,
}

impl World {
    fn new() -> Self {
        let mut machines = vec![Machine { on: true, ..Machine::default() }; NAMES.len()];
        machines[0] = Machine { on: true, disk: Some(1), ticket: None, marked: true };
        let seed = Entry { id: 1, machine: 0, learner: false };
        Self { machines, members: vec![seed], begun: None, spent: Duration::ZERO, next_id: 2 }
    }

    /// A member runs where the machine is on and its disk is that member's.
    fn runs(&self, member: &Entry) -> bool {
        self.machines[member.machine].on && self.machines[member.machine].disk == Some(member.id)
    }

    /// How many members have a vote, and how many of them run.
    fn voters(&self) -> (usize, usize) {
        let voters = || self.members.iter().filter(|member| !member.learner);
        (voters().count(), voters().filter(|member| self.runs(member)).count())
    }

    fn has_quorum(&self) -> bool {
        let (all, heard) = self.voters();
        heard > all / 2
    }

    /// Whoever runs and has a vote may be the promoter. Without a majority there is no API server to read from.
    fn promoter(&self) -> Option<usize> {
        let mut able = self.members.iter().filter(|member| !member.learner && self.runs(member));
        able.next_back().map(|member| member.machine).filter(|_| self.has_quorum())
    }

    fn observed(&self) -> Observed {
        let node = |(at, machine): (usize, &Machine)| {
            let found = Found { member: machine.disk.map(MemberId), trouble: None };
            let member = self.members.iter().find(|member| member.machine == at && !member.learner);
            Node {
                ready: machine.on,
                marked: machine.marked,
                report: (machine.on && at != 0).then_some(found),
                ticket: machine.ticket.map(MemberId),
                serves: member.is_some_and(|member| self.runs(member)),
                ..node(NAMES[at])
            }
        };
        let heard = |entry: &Entry| {
            let mut heard = voice(NAMES[entry.machine], entry.id);
            heard.member.learner = entry.learner;
            heard.answers = self.runs(entry);
            heard
        };
        Observed {
            wanted: NAMES[1..].iter().map(|of| name(of)).collect(),
            nodes: self.machines.iter().enumerate().map(node).collect(),
            members: self.members.iter().map(heard).collect(),
            begun: self.begun.map(|at| name(NAMES[at])),
        }
    }

    fn pass(&mut self, parts: u8) -> Step {
        let Some(me) = self.promoter() else { return Step::Rest };
        let step = decide(&self.observed(), &name(NAMES[me]), self.spent, &BTreeSet::new()).step;
        self.spent += Duration::from_secs(20);
        let at = |name: &NodeName| NAMES.iter().position(|known| *known == name.as_str()).unwrap();
        match &step {
            Step::Rest | Step::Left(_) | Step::Keep(_) => {}
            Step::Begin(of) => {
                assert!(self.begun.is_none(), "one at a time");
                self.begun = Some(at(of));
                self.spent = Duration::ZERO;
            }
            Step::Enter(of) => {
                let machine = at(of);
                assert!(self.members.iter().all(|member| !member.learner), "etcd has one learner at most");
                assert!(self.members.iter().all(|member| member.machine != machine), "its address is taken");
                self.members.push(Entry { id: self.next_id, machine, learner: true });
                self.next_id += 1;
            }
            Step::Ticket(of, id) => self.machines[at(of)].ticket = Some(id.0),
            Step::Vote(of, id) => {
                assert!(self.machines[at(of)].disk == Some(id.0), "a vote needs a disk to come back with");
                if parts > 0 {
                    self.machines[at(of)].ticket = None;
                }
                if parts > 1 {
                    let mine = self.members.iter_mut().filter(|member| member.id == id.0);
                    mine.for_each(|member| member.learner = false);
                }
                let (all, heard) = self.voters();
                assert!(parts < 2 || all == heard, "a vote is given when all answer");
            }
            Step::Mark(of) => self.machines[at(of)].marked = true,
            Step::Finish(of) => self.forget(at(of), parts),
            Step::Abandon(of, id) => {
                if parts > 0 {
                    self.remove(*id);
                    self.forget(at(of), parts - 1);
                }
            }
            Step::Remove(id, _) => self.remove(Some(*id)),
        }
        assert!(self.has_quorum(), "{step:?} took the majority away: {:?}", self.voters());
        step
    }

    fn remove(&mut self, id: Option<MemberId>) {
        let Some(gone) = self.members.iter().find(|member| Some(MemberId(member.id)) == id).copied() else {
            return;
        };
        assert!(gone.learner || !self.runs(&gone), "a member that answers is never removed unasked");
        self.members.retain(|member| member.id != gone.id);
    }

    fn forget(&mut self, at: usize, parts: u8) {
        if parts > 0 {
            self.machines[at].ticket = None;
        }
        if parts > 1 {
            self.begun = None;
        }
    }

    fn act(&mut self, act: Act) {
        match act {
            Act::Pass(parts) => drop(self.pass(parts)),
            Act::Become(at) => {
                let reads = self.machines[at].on && self.has_quorum();
                if let Some(ticket) = self.machines[at].ticket.filter(|_| reads) {
                    let voter = self.members.iter().any(|member| member.id == ticket && !member.learner);
                    let same = self.machines[at].disk == Some(ticket);
                    assert!(same || !voter, "a member that has voted begins with an empty disk");
                    self.machines[at].disk = Some(ticket);
                }
            }
            Act::Off(at) => self.machines[at].on = false,
            Act::On(at) => self.machines[at].on = true,
            Act::Wipe(at) => {
                self.machines[at].disk = None;
                self.machines[at].on = true;
            }
            Act::Wait => self.spent += LIMIT,
        }
    }
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let act = prop_oneof![
        8 => (0..4_u8).prop_map(Act::Pass),
        4 => (1..NAMES.len()).prop_map(Act::Become),
        1 => (0..NAMES.len()).prop_map(Act::Off),
        2 => (0..NAMES.len()).prop_map(Act::On),
        1 => (1..NAMES.len()).prop_map(Act::Wipe),
        1 => Just(Act::Wait),
    ];
    proptest::collection::vec(act, 0..120)
}

proptest! {
    /// Whatever happened: no step takes the majority away, and once all machines have power, and a majority has its disks,
    /// all become what they were wanted to be.
    #[test]
    fn everything_comes_right_that_can(acts in acts()) {
        let mut world = World::new();
        for act in acts {
            world.act(act);
        }
        for at in 0..NAMES.len() {
            world.act(Act::On(at));
        }
        if world.has_quorum() {
            for _ in 0..400 {
                for at in 1..NAMES.len() {
                    world.act(Act::Become(at));
                }
                world.act(Act::Pass(3));
            }
            prop_assert_eq!(world.voters(), (5, 5), "{:?}", world);
            let all_done = world.machines.iter().all(|machine| machine.marked && machine.ticket.is_none());
            prop_assert!(world.begun.is_none() && all_done, "{:?}", world);
            prop_assert_eq!(world.pass(3), Step::Rest);
        }
    }
}
