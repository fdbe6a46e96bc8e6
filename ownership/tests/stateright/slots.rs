//! What the daemon is in a node: the placement, as it applies it and as it changes it.

use crate::{
    config::Mistake,
    driver::{Driver, Of},
    node::{Placed, Work},
    placements,
    shelf::Delivery,
    way::Way,
};
use ownership::{placement::Applied, store::DirectoryWrite, takeover::Strategy};

impl<W: Way> Driver<'_, W> {
    /// Applies the placement that stands, if it is a newer one.
    pub fn apply(&mut self) {
        let Some(row) = self.world.directory.placement().cloned() else { return };
        let placement = placements::of(&row);
        let index = self.node.index;
        let before = self.node.kernel.placed.take();
        let applied = match &before {
            Some(Placed { applied, .. }) => {
                let mut applied = applied.clone();
                applied.apply(placement);
                applied
            }
            None => Applied::new(index, placement),
        };
        if W::STRATEGY == Strategy::Sticky {
            let before = self.world.own[self.at].placement().cloned();
            if let Ok(copy) = DirectoryWrite::copy_placement(before.as_ref(), &row) {
                assert!(self.send_own(copy).is_won(), "nobody else writes there");
            }
        }
        self.node.kernel.placed = Some(Placed { row, applied });
        // Off-home rows of slots that are this node's now, or whose move is complete.
        for session in self.world.numbers() {
            if matches!(self.node.work(session), Some(Work::None | Work::Elsewhere(_))) {
                self.find(session);
            }
        }
    }

    /// Looks whether every node has applied what this one has.
    pub fn census(&mut self) {
        if let Some(barrier) = self.sight().barrier()
            && let Some(placed) = &mut self.node.kernel.placed
        {
            placed.applied.passed(barrier);
        }
    }

    /// Commits a placement with all slots at another node.
    pub fn plan(&mut self, to: u16) {
        let Some(row) = self.world.directory.placement().cloned() else { return };
        let attempt = self.attempt(Of::Placement, row.revision.get().into());
        if let Ok(next) = placements::moved(&row, to) {
            let (write, _) = DirectoryWrite::place(Some(&row), &next, attempt).expect("the next");
            let _whoever_was_faster = self.send(write, Delivery::Whole);
        }
    }

    /// Commits a placement with the slots of a lost node at this one.
    pub fn fail_over(&mut self) {
        let Some(row) = self.world.directory.placement().cloned() else { return };
        let Some((proof, fence)) = self.sight().lost_home() else { return };
        let attempt = self.attempt(Of::Placement, row.revision.get().into());
        if let Ok(next) = placements::failed_over(&row, proof, self.node.index.get()) {
            let (write, _) = DirectoryWrite::place(Some(&row), &next, attempt).expect("the next");
            let write = write.while_fenced(&fence).expect("it is fenced");
            let _whoever_was_faster = self.send(write, Delivery::Whole);
        }
    }

    /// Commits that the slots' move away from this node is complete.
    pub fn clear(&mut self) {
        let Some(row) = self.world.directory.placement().cloned() else { return };
        let barrier = if self.makes(Mistake::ClearedBeforeBarrier) {
            self.sight().false_barrier()
        } else {
            self.sight().barrier()
        };
        let left = self.sight().left();
        let emptied = barrier.and_then(|barrier| barrier.emptied(self.node.index, left));
        let cleared = emptied.and_then(|emptied| placements::cleared(&row, emptied).ok());
        let attempt = self.attempt(Of::Placement, row.revision.get().into());
        if let Some(next) = cleared {
            let (write, _) = DirectoryWrite::place(Some(&row), &next, attempt).expect("the next");
            let _whoever_was_faster = self.send(write, Delivery::Whole);
        }
    }
}
