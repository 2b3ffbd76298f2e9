//! What each format makes of an event.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]
