//! A pointer that is counted, as `Arc` is, with one thing more: a thread that hands out many of them at once, and gets
//! most of them back itself, counts twice in all and not twice for each.

use std::cell::Cell;
use std::ops::Deref;
use std::process::abort;
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicUsize, Ordering, fence};

/// A pointer to a value that lives as long as any pointer to it does.
pub(crate) struct Counted<T>(NonNull<Inner<T>>);

struct Inner<T> {
    count: AtomicUsize,
    value: T,
}

// SAFETY: as for `Arc`: the value is shared between threads, and dropped on any one of them.
unsafe impl<T: Send + Sync> Send for Counted<T> {}
// SAFETY: through a shared pointer another one can be made, so the same is wanted of the value.
unsafe impl<T: Send + Sync> Sync for Counted<T> {}

thread_local! {
    /// Whose pointers come back to this thread without being counted one by one, and how many have. Never dereferenced.
    static LENDER: Cell<(*const (), usize)> = const { Cell::new((ptr::null(), 0)) };
}

impl<T> Counted<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(NonNull::from(Box::leak(Box::new(Inner { count: AtomicUsize::new(1), value }))))
    }

    /// Pointers to hand out, counted at once. Those that are dropped on this thread while `with` goes on are not counted
    /// one by one.
    pub(crate) fn lend<R>(&self, count: usize, with: impl FnOnce(&mut Lent<'_, T>) -> R) -> R {
        self.add(count);
        let before = LENDER.replace((self.0.as_ptr().cast(), 0));
        with(&mut Lent { of: self, left: count, before })
    }

    fn inner(&self) -> &Inner<T> {
        // SAFETY: this pointer is counted, so what it points to is live; and nobody has it mutably before the last
        // one is gone.
        unsafe { self.0.as_ref() }
    }

    fn add(&self, count: usize) {
        // Relaxed: whoever makes another pointer has one.
        let before = self.inner().count.fetch_add(count, Ordering::Relaxed);
        if before > MOST || count > MOST {
            // Only if pointers are forgotten without end; beyond it the count would begin anew.
            abort();
        }
    }

    /// Gives up pointers that were counted, of which none is used any more.
    ///
    /// # Safety
    ///
    /// So many were counted and are gone without having been counted off. If they are the last ones, `inner` is not used
    /// after this.
    unsafe fn give_up(inner: NonNull<Inner<T>>, count: usize) {
        // SAFETY: they are counted still, so it is live.
        let counter = unsafe { &inner.as_ref().count };
        // Release: what was done through them comes before the end of the value.
        if counter.fetch_sub(count, Ordering::Release) == count {
            fence(Ordering::Acquire);
            // SAFETY: it was leaked from a box when it was made, and no pointer to it is left.
            drop(unsafe { Box::from_raw(inner.as_ptr()) });
        }
    }
}

impl<T> Clone for Counted<T> {
    #[inline]
    fn clone(&self) -> Self {
        self.add(1);
        Self(self.0)
    }
}

impl<T> Deref for Counted<T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        &self.inner().value
    }
}

impl<T> Drop for Counted<T> {
    #[inline]
    fn drop(&mut self) {
        let (lender, returned) = LENDER.get();
        if ptr::eq(lender, self.0.as_ptr().cast()) {
            LENDER.set((lender, returned + 1));
        } else {
            // SAFETY: this one was counted, and it ends here.
            unsafe { Self::give_up(self.0, 1) }
        }
    }
}

/// Pointers that were counted and are to be handed out.
pub(crate) struct Lent<'a, T> {
    of: &'a Counted<T>,
    left: usize,
    /// Who lent on this thread before, and goes on to.
    before: (*const (), usize),
}

impl<T> Lent<'_, T> {
    /// Another pointer.
    #[inline]
    pub(crate) fn take(&mut self) -> Counted<T> {
        let Some(left) = self.left.checked_sub(1) else { return self.of.clone() };
        self.left = left;
        Counted(self.of.0)
    }
}

impl<T> Drop for Lent<'_, T> {
    fn drop(&mut self) {
        let (_, returned) = LENDER.replace(self.before);
        if self.left + returned > 0 {
            // SAFETY: those that are left were counted and never made. Those that returned were counted, and their `drop`
            // left counting them off to this: it finds this lender only while `lend` calls its closure, on that
            // thread. Nobody else has this by value, so it ends there, and lenders within that closure before it. The
            // pointer that was lent from goes on.
            unsafe { Counted::give_up(self.of.0, self.left + returned) }
        }
    }
}

/// More pointers than there can be.
const MOST: usize = isize::MAX as usize;

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::thread;

    use super::*;

    /// Counts its own end.
    struct Ends(Arc<AtomicUsize>);

    impl Drop for Ends {
        fn drop(&mut self) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    fn counted() -> (Counted<Ends>, impl Fn() -> usize) {
        let ends = Arc::new(AtomicUsize::new(0));
        (Counted::new(Ends(ends.clone())), move || ends.load(Ordering::SeqCst))
    }

    fn count<T>(of: &Counted<T>) -> usize {
        of.inner().count.load(Ordering::SeqCst)
    }

    #[test]
    fn a_value_ends_with_its_last_pointer() {
        let (first, ended) = counted();
        let second = first.clone();
        assert_eq!(count(&first), 2);
        drop(first);
        assert_eq!((count(&second), ended()), (1, 0));
        thread::spawn(move || drop(second)).join().ok();
        assert_eq!(ended(), 1);
    }

    #[test]
    fn what_was_lent_is_counted_off_wherever_it_ends() {
        let (first, ended) = counted();
        let mut kept = Vec::new();
        first.lend(6, |lent| {
            assert_eq!(count(&first), 7);
            drop((lent.take(), lent.take()));
            kept.extend([lent.take(), lent.take()]);
            let sent = lent.take();
            thread::spawn(move || drop(sent)).join().ok();
            // One was counted off by the other thread; two have come back, and one is left.
            assert_eq!((count(&first), lent.left), (6, 1));
        });
        assert_eq!(count(&first), 3);
        drop(first);
        assert_eq!((ended(), kept.len()), (0, 2));
        drop(kept);
        assert_eq!(ended(), 1);
    }

    #[test]
    fn more_can_be_taken_than_was_lent() {
        let (first, ended) = counted();
        let taken = first.lend(1, |lent| [lent.take(), lent.take(), lent.take()]);
        assert_eq!(count(&first), 4);
        drop((taken, first));
        assert_eq!(ended(), 1);
    }

    #[test]
    fn lenders_within_each_other_and_of_others_do_not_mix() {
        let ((outer, outer_ended), (inner, inner_ended)) = (counted(), counted());
        outer.lend(3, |of_outer| {
            let taken = of_outer.take();
            inner.lend(2, |of_inner| {
                drop(of_inner.take());
                let mine = of_inner.take();
                // Those of one that is not asked now are counted off at once.
                drop(taken);
                assert_eq!(count(&outer), 3);
                outer.lend(2, |again| drop((again.take(), mine)));
                assert_eq!((count(&outer), count(&inner)), (3, 2));
            });
            assert_eq!(count(&inner), 1);
            drop(of_outer.take());
        });
        assert_eq!((count(&outer), outer_ended(), inner_ended()), (1, 0, 0));
        drop((outer, inner));
        assert_eq!((outer_ended(), inner_ended()), (1, 1));
    }

    #[test]
    fn a_panic_in_between_leaves_nothing_behind() {
        let (first, ended) = counted();
        let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            first.lend(4, |lent| {
                let _two = [lent.take(), lent.take()];
                std::panic::resume_unwind(Box::new("on purpose"));
            });
        }));
        assert!(panicked.is_err());
        assert_eq!((count(&first), LENDER.get().0), (1, ptr::null()));
        drop(first);
        assert_eq!(ended(), 1);
    }

    #[test]
    fn many_threads_at_once_end_it_once() {
        let (first, ended) = counted();
        let threads: Vec<_> = (0..4)
            .map(|_| {
                let mine = first.clone();
                thread::spawn(move || {
                    let mut kept = Vec::new();
                    for round in 0..200 {
                        mine.lend(8, |lent| {
                            for _ in 0..8 {
                                kept.push(lent.take());
                            }
                            kept.truncate(round % 8);
                        });
                    }
                })
            })
            .collect();
        drop(first);
        assert!(threads.into_iter().all(|thread| thread.join().is_ok()));
        assert_eq!(ended(), 1);
    }
}
