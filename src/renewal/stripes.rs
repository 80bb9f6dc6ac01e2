use std::array;
use std::cell::Cell;
use std::sync::atomic::{AtomicUsize, Ordering};

use http::HeaderValue;

use super::token::AccessToken;

/// How many threads clone a header without touching each other's reference count: a power of two.
const STRIPES: usize = 8;

/// Equal headers of one token. Threads that share a reference count wait for each other at every read.
#[derive(Debug, Clone)]
pub(super) struct Stripes([HeaderValue; STRIPES]);

thread_local! {
    /// Which of them this thread clones.
    static STRIPE: Cell<usize> = const { Cell::new(usize::MAX) };
}

impl Stripes {
    pub(super) fn new(token: &AccessToken) -> Self {
        Self(array::from_fn(|_| token.header_apart()))
    }

    #[inline(always)]
    pub(super) fn of_this_thread(&self) -> &HeaderValue {
        let stripe = match STRIPE.get() {
            usize::MAX => first(),
            stripe => stripe,
        };
        &self.0[stripe % STRIPES]
    }
}

/// Threads take turns.
#[cold]
fn first() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    let stripe = NEXT.fetch_add(1, Ordering::Relaxed) % STRIPES;
    STRIPE.set(stripe);
    stripe
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secret::{Scheme, TokenText};
    use std::time::SystemTime;

    #[test]
    fn each_thread_keeps_to_one_and_eight_threads_share_none() {
        let text = TokenText::new(Scheme::Bearer, "t").unwrap();
        let stripes = Stripes::new(&AccessToken::new(text, SystemTime::UNIX_EPOCH, None));
        assert!(stripes.0.iter().all(|header| header == "Bearer t" && header.is_sensitive()));
        let place = || {
            let header = stripes.of_this_thread();
            assert!(std::ptr::eq(header, stripes.of_this_thread()));
            stripes.0.iter().position(|stripe| std::ptr::eq(stripe, header)).unwrap()
        };
        // One after another, so that no other test's threads come between.
        let mut places = [0; STRIPES];
        std::thread::scope(|scope| {
            let threads: Vec<_> = (0..10 * STRIPES).map(|_| scope.spawn(place)).collect();
            threads.into_iter().for_each(|thread| places[thread.join().unwrap()] += 1);
        });
        assert!(places.iter().all(|place| *place > 0), "{places:?}");
    }
}
