//! Tasks beside the engine: each has an owner, and the owner learns if one is lost.

use tokio::task::JoinSet;

/// Waits until one of `tasks` has panicked.
pub(crate) async fn lost(tasks: &mut JoinSet<()>) {
    loop {
        match tasks.join_next().await {
            Some(Err(_)) => return,
            Some(Ok(())) => {}
            None => std::future::pending().await,
        }
    }
}
