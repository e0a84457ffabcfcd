//! One look for everybody who asks within a second: a hundred open pages and a probe cost what they look at as much as one of
//! them. What was changed here is seen at once.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex as PlainMutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use tokio::sync::Mutex;

use super::problem::Problem;

/// For how long one look is good.
const GOOD: Duration = Duration::from_secs(1);
/// For how long it is good enough while the next one is under way: with 2,000 requests a second, all that came meanwhile waited for
/// it, which made them the slowest hundredth.
const MEANWHILE: Duration = Duration::from_secs(2);

#[derive(Debug)]
struct Looked<T> {
    at: Instant,
    /// How often it had been forgotten when the look began.
    forgotten: u64,
    result: Result<Arc<T>, Problem>,
}

/// The last look at something.
#[derive(Debug)]
pub(super) struct Shared<T> {
    last: RwLock<Option<Looked<T>>>,
    /// Held by whoever makes the next one.
    looking: Mutex<()>,
    forgotten: AtomicU64,
}

impl<T> Default for Shared<T> {
    fn default() -> Self {
        Self { last: RwLock::default(), looking: Mutex::default(), forgotten: AtomicU64::default() }
    }
}

impl<T> Shared<T> {
    /// The last look while it is good, else a new one. Who asks meanwhile gets the last one if it is hardly older, and
    /// waits for the new one otherwise; also a failure is good for a second, so that they do not wait for what is away one
    /// after the other.
    pub(super) async fn get(&self, look: impl Future<Output = Result<T, Problem>>) -> Result<Arc<T>, Problem> {
        if let Some(result) = self.last(GOOD) {
            return result;
        }
        let _looking = match self.looking.try_lock() {
            Ok(looking) => looking,
            Err(_) => match self.last(MEANWHILE) {
                Some(Ok(seen)) => return Ok(seen),
                _ => self.looking.lock().await,
            },
        };
        // Somebody may have looked in between.
        if let Some(result) = self.last(GOOD) {
            return result;
        }
        let forgotten = self.forgotten.load(Ordering::Acquire);
        let result = look.await.map(Arc::new);
        let looked = Looked { at: Instant::now(), forgotten, result: result.clone() };
        *self.last.write().unwrap_or_else(PoisonError::into_inner) = Some(looked);
        result
    }

    /// The last look, if it is not older than that and nothing was changed since.
    fn last(&self, age: Duration) -> Option<Result<Arc<T>, Problem>> {
        let forgotten = self.forgotten.load(Ordering::Acquire);
        let last = self.last.read().unwrap_or_else(PoisonError::into_inner);
        let looked = last.as_ref().filter(|look| look.at.elapsed() < age && look.forgotten == forgotten)?;
        Some(looked.result.clone())
    }

    /// Something was changed: whoever asks from now on sees it.
    pub(super) fn forget(&self) {
        self.forgotten.fetch_add(1, Ordering::Release);
    }
}

/// The same for each of several things, by name.
#[derive(Debug)]
pub(super) struct SharedByName<T>(PlainMutex<BTreeMap<String, Arc<Shared<T>>>>);

impl<T> Default for SharedByName<T> {
    fn default() -> Self {
        Self(PlainMutex::default())
    }
}

impl<T> SharedByName<T> {
    /// The looks at the thing of this name. It stays in memory: names of nothing are kept out before.
    pub(super) fn of(&self, name: &str) -> Arc<Shared<T>> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(all.entry(name.to_owned()).or_default())
    }

    /// Something was changed.
    pub(super) fn forget(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).values().for_each(|shared| shared.forget());
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU32;

    use super::*;

    #[tokio::test]
    async fn who_asks_at_once_shares_a_look_and_who_asks_after_a_change_does_not() {
        let (shared, looks) = (Shared::default(), AtomicU32::new(0));
        let look = async || {
            let looking = async {
                tokio::time::sleep(Duration::from_millis(20)).await;
                Ok(looks.fetch_add(1, Ordering::SeqCst))
            };
            *shared.get(looking).await.unwrap()
        };
        assert_eq!(tokio::join!(look(), look(), look()), (0, 0, 0));
        assert_eq!(look().await, 0);
        shared.forget();
        assert_eq!(look().await, 1);
    }

    #[tokio::test]
    async fn what_was_changed_during_a_look_is_looked_at_again() {
        let shared = Shared::default();
        let late = async {
            shared.forget();
            Ok("before")
        };
        assert_eq!(*shared.get(late).await.unwrap(), "before");
        assert_eq!(*shared.get(async { Ok("after") }).await.unwrap(), "after");
    }

    #[tokio::test]
    async fn a_failure_is_shared_and_a_look_of_now_does_while_the_next_is_under_way() {
        let shared = Shared::<u32>::default();
        let failed = || async { Err(Problem::bad_request("away")) };
        assert!(shared.get(failed()).await.is_err());
        assert!(shared.get(async { Ok(1) }).await.is_err(), "not asked again within a second");
        shared.forget();
        assert_eq!(*shared.get(async { Ok(2) }).await.unwrap(), 2);
        // Older than a second, younger than two.
        let before = Instant::now().checked_sub(GOOD + Duration::from_millis(100)).unwrap();
        shared.last.write().unwrap().as_mut().unwrap().at = before;
        let _looking = shared.looking.lock().await;
        assert_eq!(*shared.get(async { Ok(3) }).await.unwrap(), 2, "nobody waits for whoever looks");
    }

    #[tokio::test]
    async fn all_names_are_forgotten_at_once_and_none_is_anothers() {
        let named = SharedByName::default();
        let look = async |name: &str, now: u32| *named.of(name).get(async { Ok(now) }).await.unwrap();
        assert_eq!((look("a", 1).await, look("b", 2).await, look("a", 3).await), (1, 2, 1));
        named.forget();
        assert_eq!((look("a", 4).await, look("b", 5).await), (4, 5));
    }
}
