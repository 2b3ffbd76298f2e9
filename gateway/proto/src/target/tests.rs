//! Hosts, authorities, targets and paths in hostile spellings.
