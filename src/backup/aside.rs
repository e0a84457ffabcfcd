//! Hashing, compressing and opening chunks keeps processors busy. It is done on threads of its own with a lower priority, so
//! that neither who asks the daemon something nor a database on the same machine waits for it: beside a backup on two
//! processors the slowest hundredth of 2,000 requests a second had taken 83 ms.

use std::sync::LazyLock;

use tokio::runtime::{Builder, Handle, Runtime};
use tokio::task::JoinHandle;

/// What it is nicer by than the rest, of 19.
const NICER: i32 = 10;

/// Its tasks are never driven: only its threads for blocking work are used.
static THREADS: LazyLock<Option<Runtime>> = LazyLock::new(|| {
    let lower = || {
        // On Linux the priority is the calling thread's. Where it may not be lowered the work is done all the same.
        let _ = rustix::process::setpriority_process(None, NICER);
    };
    Builder::new_current_thread().thread_name("aside").on_thread_start(lower).build().ok()
});

/// Where such work is spawned. The caller's own threads do it where the system has no more.
pub(super) fn aside() -> Handle {
    THREADS.as_ref().map_or_else(Handle::current, |runtime| runtime.handle().clone())
}

/// Does something that keeps a processor busy.
pub(super) fn work<T: Send + 'static>(act: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
    aside().spawn_blocking(act)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn it_is_done_with_a_lower_priority_and_nothing_else_is() {
        let nice = || rustix::process::getpriority_process(None).unwrap();
        let before = nice();
        assert_eq!(work(nice).await.unwrap(), (before + NICER).min(19));
        assert_eq!((nice(), tokio::task::spawn_blocking(nice).await.unwrap()), (before, before));
    }
}
