//! Which machines are control planes: those that say so, and as many more as are asked for, next to the seed.

use hardware::topology::{self, Cable, MachineNumber};

use super::super::written::{CONTROL_PLANES, Role};
use super::{Checker, Member};

impl Checker<'_> {
    /// Makes the number of control planes full. The fewer cables between the members of etcd, the sooner each of its writes
    /// is done, so those next to the seed come first.
    pub(super) fn choose_control_planes(&mut self, members: &mut [Member<'_>], cables: &[Cable]) {
        let Some((number, place)) = self.written.control_planes.pair() else { return };
        if !CONTROL_PLANES.contains(number) {
            let problem = "an even number of them bears no more losses than one less: it is 1, 3 or 5";
            self.note(place, format!("{number} control planes: {problem}"));
            return;
        }
        let have = members.iter().filter(|member| member.is_control_plane()).count();
        let Some(more) = usize::from(*number).checked_sub(have) else {
            let problem = "machines are control planes by their roles, the seed among them";
            self.note(place, format!("{have} {problem}, and not {number}"));
            return;
        };
        let distances = topology::distances(cables);
        let distance = |number: &MachineNumber| distances.get(number).copied().unwrap_or(u16::MAX);
        let mut free: Vec<_> =
            (0..).map(MachineNumber).zip(members).filter(|(_, member)| member.role.is_none()).collect();
        if free.len() < more && self.machines_are_known {
            let problem = format!(
                "{number} control planes want {more} machines that have no other role, and there are {}",
                free.len()
            );
            self.note(place, problem);
        }
        free.sort_by_key(|(number, _)| (distance(number), *number));
        for (_, member) in free.into_iter().take(more) {
            member.role = Some(Role::ControlPlane);
        }
    }
}

impl Member<'_> {
    /// The seed is one anyway.
    fn is_control_plane(&self) -> bool {
        matches!(self.role, Some(Role::Seed | Role::ControlPlane))
    }
}
