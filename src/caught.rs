use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::task::Poll;

/// The outcome of what a user supplied, or `None` where it panicked. Nothing of it is touched after that.
pub(crate) async fn caught<T>(future: impl Future<Output = T>) -> Option<T> {
    let mut future = pin!(future);
    poll_fn(|context| match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(context))) {
        Ok(poll) => poll.map(Some),
        Err(_) => Poll::Ready(None),
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_at_any_poll_is_caught() {
        assert_eq!(caught(async { 1 }).await, Some(1));
        let at_once = caught(async { panic!("signer") });
        assert_eq!(at_once.await, None::<()>);
        let later = caught(async {
            tokio::task::yield_now().await;
            panic!("signer")
        });
        assert_eq!(later.await, None::<()>);
    }
}
