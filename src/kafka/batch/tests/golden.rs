//! Batches that other clients wrote; see `golden/README.md`.
