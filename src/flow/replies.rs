//! Feature slices on their way back to the workers that asked.

use super::Block;

/// Slices of one plan, per worker.
pub struct Replies {
    blocks: Vec<Block>,
    features: usize,
}

impl Replies {
    /// Slices of so many features for so many workers, with room for about so many rows.
    pub fn new(plan: u16, here: u32, peers: usize, features: usize, rows: usize) -> Self {
        let words = || Vec::with_capacity(rows.div_ceil(peers) * (1 + features));
        let block = |to| Block { to: to as u32, from: here, plan, words: words() };
        Replies { blocks: (0..peers).map(block).collect(), features }
    }

    /// Room for the features of a ticket; they are 0.
    pub fn row(&mut self, to: u32, ticket: u32) -> &mut [f64] {
        let words = &mut self.blocks[to as usize].words;
        words.push(u64::from(ticket));
        let start = words.len();
        words.resize(start + self.features, 0);
        bytemuck::cast_slice_mut(&mut words[start..])
    }

    /// What there is to send.
    pub fn blocks(self) -> impl Iterator<Item = Block> {
        self.blocks.into_iter().filter(|block| !block.words.is_empty())
    }
}
