//! ClientHellos in pieces, and in disguise.
