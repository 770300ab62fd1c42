//! What connectivity keeps of each subtree of a tour: counts and labels that can be subtracted again.

/// What a node of a tour may bear.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NodeMark {
    /// A vertex with edges of the tour's level that are in no tree.
    Spare,
    /// An arc of an edge whose level is the tour's.
    OwnLevel,
}

/// Of a node, or of a whole subtree.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sum {
    /// Vertices.
    pub size: u32,
    /// On level 0: accounts among them.
    pub accounts: u32,
    /// On level 0: edges that have one of the vertices as their first end.
    pub links: u32,
    spares: u32,
    own_level: u32,
    /// On level 0: the labels of the vertices' edges that are in no tree, combined by exclusive or. 0 if no such edge
    /// leaves the subtree, but for one cut in 2^64.
    pub labels: u64,
}

impl Sum {
    /// Of a vertex.
    pub fn of_vertex(is_account: bool) -> Self {
        Sum { size: 1, accounts: u32::from(is_account), ..Sum::default() }
    }

    /// Of edges at their first end, or of a label at either.
    pub fn of_edges(links: u32, labels: u64) -> Self {
        Sum { links, labels, ..Sum::default() }
    }

    /// Of a node that bears a mark.
    pub fn of(mark: NodeMark) -> Self {
        match mark {
            NodeMark::Spare => Sum { spares: 1, ..Sum::default() },
            NodeMark::OwnLevel => Sum { own_level: 1, ..Sum::default() },
        }
    }

    /// How many nodes bear a mark.
    pub fn bearing(&self, mark: NodeMark) -> u32 {
        match mark {
            NodeMark::Spare => self.spares,
            NodeMark::OwnLevel => self.own_level,
        }
    }

    /// Both together.
    #[inline]
    #[must_use]
    pub fn with(self, other: Sum) -> Self {
        self.combine(other, u32::wrapping_add)
    }

    /// What is left of it.
    #[inline]
    #[must_use]
    pub fn without(self, other: Sum) -> Self {
        self.combine(other, u32::wrapping_sub)
    }

    #[inline]
    fn combine(self, other: Sum, count: impl Fn(u32, u32) -> u32) -> Self {
        Sum {
            size: count(self.size, other.size),
            accounts: count(self.accounts, other.accounts),
            links: count(self.links, other.links),
            spares: count(self.spares, other.spares),
            own_level: count(self.own_level, other.own_level),
            labels: self.labels ^ other.labels,
        }
    }
}
