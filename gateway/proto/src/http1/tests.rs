//! Cases of group H1.
