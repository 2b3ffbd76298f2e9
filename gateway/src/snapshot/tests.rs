//! The snapshot's promises.
