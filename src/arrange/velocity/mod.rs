//! stand-in
#![allow(missing_docs, unused)]
use crate::event::{Id, Key};
use crate::feature::KeyPlan;
use std::sync::Arc;
pub struct Entry<'a> {
    pub key: Key,
    pub time: i64,
    pub id: Id,
    pub mask: u64,
    pub known_at: i64,
    pub scored: bool,
    pub amounts: &'a [i64],
    pub values: &'a [u64],
}
pub struct Store;
pub struct Stats {
    pub keys: usize,
    pub entries: usize,
    pub map_capacity: usize,
    pub bytes: usize,
}
impl Store {
    pub fn new(plan: Arc<KeyPlan>) -> Self {
        Store
    }
    pub fn insert(&mut self, entry: &Entry<'_>) -> bool {
        true
    }
    pub fn insert_and_read(&mut self, entry: &Entry<'_>, out: &mut [f64]) -> bool {
        true
    }
    pub fn remove(&mut self, key: Key, time: i64, id: Id) -> bool {
        true
    }
    pub fn relabel(&mut self, key: Key, time: i64, id: Id, mask: u64, known_at: i64) -> bool {
        true
    }
    pub fn read(&self, key: Key, time: i64, id: Id, out: &mut [f64]) {}
    pub fn visit_scored(
        &self,
        key: Key,
        after: (i64, Id),
        until_ms: i64,
        limit: usize,
        visit: &mut dyn FnMut(i64, Id),
    ) -> Option<(i64, Id)> {
        None
    }
    pub fn expire(&mut self, entries_before_ms: i64, budget: usize) -> usize {
        0
    }
    pub fn stats(&self) -> Stats {
        todo!()
    }
}
