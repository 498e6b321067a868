//! Taking a tree through the phases.

use super::{Barrier, Circumstances, ORDER, Phase, Row, Taken};
use crate::error::Result;

/// A tree under construction, or a part of one.
pub trait World {
    /// Takes a phase once, for the whole tree.
    fn once(&mut self, phase: Phase) -> Result<()>;

    /// Has each process take these phases, one process after the other.
    fn each(&mut self, phases: &[Phase]) -> Result<()>;
}

/// The phases that a tree has still to take.
#[derive(Debug, Default)]
pub struct Walk {
    left: Vec<Stretch>,
}

/// What is done before the tree waits for all of its processes again.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Stretch {
    Once(Phase),
    Each(Vec<Phase>),
}

impl Walk {
    /// All phases of such a tree.
    pub fn new(tree: &Circumstances) -> Self {
        let mut left = stretches(ORDER, tree);
        left.reverse();
        Self { left }
    }

    /// Takes `world` through the phases up to `last`.
    pub fn through(&mut self, last: Phase, world: &mut impl World) -> Result<()> {
        while let Some(stretch) = self.left.pop() {
            let (now, later) = stretch.split_after(last);
            self.left.extend(later);
            match now {
                Some(Stretch::Once(phase)) => world.once(phase)?,
                Some(Stretch::Each(phases)) => world.each(&phases)?,
                None => break,
            }
        }
        Ok(())
    }
}

impl Stretch {
    /// The part up to a phase, and the part after it.
    fn split_after(self, last: Phase) -> (Option<Self>, Option<Self>) {
        match self {
            Self::Once(phase) if phase <= last => (Some(self), None),
            Self::Once(_) => (None, Some(self)),
            Self::Each(phases) => {
                let (now, later) = phases.into_iter().partition(|phase| *phase <= last);
                let some = |phases: Vec<_>| (!phases.is_empty()).then_some(Self::Each(phases));
                (some(now), some(later))
            }
        }
    }
}

/// The phases of such a tree, those together between which it need not wait.
fn stretches(order: &[Row], tree: &Circumstances) -> Vec<Stretch> {
    let mut all: Vec<Stretch> = Vec::new();
    for row in order {
        let waits = match row.taken {
            Taken::OnceIf(has) if !has(tree) => continue,
            Taken::Once | Taken::OnceIf(_) => {
                all.push(Stretch::Once(row.phase));
                continue;
            }
            Taken::Each(Barrier::Process) => false,
            Taken::Each(Barrier::Tree) => true,
            Taken::Each(Barrier::TreeIf(waits)) => waits(tree),
        };
        match all.last_mut() {
            Some(Stretch::Each(phases)) if !waits => phases.push(row.phase),
            _ => all.push(Stretch::Each(vec![row.phase])),
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROCESSES: [u32; 3] = [1, 2, 3];

    /// Notes who took which phase; 0 is the engine.
    #[derive(Default)]
    struct Notes(Vec<(u32, Phase)>);

    impl World for Notes {
        fn once(&mut self, phase: Phase) -> Result<()> {
            self.0.push((0, phase));
            Ok(())
        }

        fn each(&mut self, phases: &[Phase]) -> Result<()> {
            for process in PROCESSES {
                self.0.extend(phases.iter().map(|phase| (process, *phase)));
            }
            Ok(())
        }
    }

    impl Notes {
        fn place(&self, who: u32, phase: Phase) -> Option<usize> {
            self.0.iter().position(|note| *note == (who, phase))
        }

        /// When the first takes a phase, and when the last does.
        fn span(&self, phase: Phase) -> Option<(usize, usize)> {
            let places = || (0..=3).filter_map(|who| self.place(who, phase));
            Some((places().min()?, places().max()?))
        }
    }

    fn trees() -> impl Iterator<Item = Circumstances> {
        (0..8).map(|bits| Circumstances {
            zombies: bits & 1 != 0,
            lent_rights: bits & 2 != 0,
            shared_address_space: bits & 4 != 0,
        })
    }

    fn walked(tree: &Circumstances) -> Notes {
        let mut notes = Notes::default();
        Walk::new(tree).through(Phase::LAST, &mut notes).unwrap();
        notes
    }

    #[test]
    fn everybody_takes_every_phase_once_and_in_order() {
        for tree in trees() {
            let notes = walked(&tree);
            for process in PROCESSES {
                let own = notes.0.iter().filter(|note| note.0 == 0 || note.0 == process);
                let phases: Vec<Phase> = own.map(|note| note.1).collect();
                let want = ORDER.iter().map(|row| row.phase);
                let want = want.filter(|phase| tree.zombies || *phase != Phase::Zombies);
                assert_eq!(phases, want.collect::<Vec<_>>(), "{tree:?}");
            }
        }
    }

    #[test]
    fn nobody_passes_a_barrier_of_the_tree_before_all_are_there() {
        for tree in trees() {
            let notes = walked(&tree);
            for (index, row) in ORDER.iter().enumerate() {
                let waits = match row.taken {
                    Taken::Each(Barrier::Process) => false,
                    Taken::Each(Barrier::TreeIf(waits)) | Taken::OnceIf(waits) => waits(&tree),
                    Taken::Once | Taken::Each(Barrier::Tree) => true,
                };
                let Some((first, _)) = notes.span(row.phase).filter(|_| waits) else { continue };
                let before = ORDER[..index].iter().filter_map(|row| notes.span(row.phase));
                assert!(before.into_iter().all(|(_, last)| last < first), "{tree:?} {row:?}");
            }
        }
    }

    #[test]
    fn a_plain_tree_waits_for_nobody_after_its_seals() {
        let all = stretches(ORDER, &Circumstances::default());
        let last = ORDER.iter().map(|row| row.phase).filter(|phase| *phase > Phase::Seals);
        let last = last.filter(|phase| *phase != Phase::Zombies).collect();
        assert_eq!(all.last(), Some(&Stretch::Each(last)));
    }

    #[test]
    fn a_walk_goes_on_where_it_was_left() {
        let tree = Circumstances::default();
        let (mut notes, mut walk) = (Notes::default(), Walk::new(&tree));
        for last in [Phase::Open, Phase::Open, Phase::Tables, Phase::Pending, Phase::LAST] {
            walk.through(last, &mut notes).unwrap();
            assert_eq!(notes.0.iter().map(|note| note.1).max(), Some(last));
        }
        let mut taken: Vec<Phase> = notes.0.iter().map(|note| note.1).collect();
        taken.dedup();
        assert!(taken.len() > ORDER.len());
        assert_eq!(notes.0.len(), walked(&tree).0.len());
    }

    #[test]
    fn a_failure_ends_the_walk() {
        struct Fails(usize);
        impl World for Fails {
            fn once(&mut self, _: Phase) -> Result<()> {
                self.0 += 1;
                Err(crate::error::Error::image("a.img", "bad"))
            }
            fn each(&mut self, _: &[Phase]) -> Result<()> {
                Ok(())
            }
        }
        let mut world = Fails(0);
        let walked = Walk::new(&Circumstances::default()).through(Phase::LAST, &mut world);
        assert!(walked.is_err());
        assert_eq!(world.0, 1);
    }
}
