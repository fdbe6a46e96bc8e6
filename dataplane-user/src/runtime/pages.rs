//! Reads of all rows of a kind, some at a time.

use ownership::store::Fault;

/// How many rows are read together.
pub(super) const PAGE: usize = 1000;

/// Reads all rows, page by page: `read` gives up to [`PAGE`] of them behind a key, `key` is a row's, and `each` takes
/// a page.
///
/// # Errors
///
/// If the store does not answer.
pub(super) async fn pages<K, R, F: Future<Output = Result<Vec<R>, Fault>>>(
    read: impl Fn(Option<K>) -> F,
    key: impl Fn(&R) -> K,
    mut each: impl FnMut(Vec<R>),
) -> Result<(), Fault> {
    let mut after = None;
    loop {
        let page = read(after).await?;
        after = page.last().map(&key);
        let is_last = page.len() < PAGE;
        each(page);
        if is_last {
            return Ok(());
        }
        // A million of them take a while, and others wait.
        tokio::task::yield_now().await;
    }
}
