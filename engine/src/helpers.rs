//! The threads that share the processor's work with the one that asks for it.

use rayon::{ThreadPool, ThreadPoolBuilder};

/// Threads that compute along with the one that called [`Helpers::here`], as long as this is kept.
///
/// A thread without any hands each operation to threads that it has in common with others and sleeps until they are
/// through. To be woken takes longer than many an operation of the starter: on two cores of an Intel Xeon
/// (`infinity bench --device cpu`) a picture took a tenth longer so.
pub struct Helpers {
    _pool: Option<ThreadPool>,
}

impl Helpers {
    /// As many for this thread as the processor has room for beside it. None where it has some already, or where the
    /// system gives no more threads: then those in common do.
    pub fn here() -> Self {
        Self {
            _pool: ThreadPoolBuilder::new().use_current_thread().build().ok(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Helpers;

    /// The caller is one of those who work, in its own threads' company, and a second call changes nothing.
    #[test]
    fn the_caller_helps() {
        let thread = std::thread::Builder::new().spawn(|| {
            assert_eq!(rayon::current_thread_index(), None);
            let helpers = Helpers::here();
            assert_eq!(rayon::current_thread_index(), Some(0));
            assert!(Helpers::here()._pool.is_none());
            let sum: u64 = rayon::join(|| 1, || rayon::join(|| 2, || 3)).1.0;
            assert_eq!(sum, 2);
            drop(helpers);
            rayon::join(|| 1, || 2)
        });
        assert_eq!(thread.unwrap().join().unwrap(), (1, 2));
    }
}
