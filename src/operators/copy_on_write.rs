//! Memory that a copy may hold, too: whoever writes to it first makes one of its own.

use std::ops::Deref;
use std::sync::Arc;

/// A piece of a table. Copying it is counting one more holder; the first write after that copies the content. As long as no one else
/// holds it, reads and writes cost a branch.
#[derive(Clone, Debug, Default)]
pub struct CopyOnWrite<T> {
    own: T,
    /// The content while a copy holds it, or has until lately.
    shared: Option<Arc<T>>,
}

impl<T> CopyOnWrite<T> {
    /// A piece that no one else holds.
    pub fn new(content: T) -> Self {
        CopyOnWrite { own: content, shared: None }
    }
}

impl<T: Clone + Default> CopyOnWrite<T> {
    /// The content as it is now.
    pub fn share(&mut self) -> Arc<T> {
        let own = &mut self.own;
        self.shared.get_or_insert_with(|| Arc::new(std::mem::take(own))).clone()
    }

    /// The content, to change.
    #[inline]
    pub fn to_mut(&mut self) -> &mut T {
        if self.shared.is_some() {
            self.make_own();
        }
        &mut self.own
    }

    #[cold]
    fn make_own(&mut self) {
        if let Some(shared) = self.shared.take() {
            self.own = Arc::unwrap_or_clone(shared);
        }
    }
}

impl<T> Deref for CopyOnWrite<T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        self.shared.as_deref().unwrap_or(&self.own)
    }
}
