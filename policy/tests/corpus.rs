//! Replays the fuzz corpus of this crate through what the fuzz target runs.

#[path = "../../tests/fuzz/entries/policy.rs"]
#[expect(unreachable_pub, reason = "shared with the fuzz targets, where it is public")]
mod entries;

use std::path::Path;

#[test]
fn every_corpus_file_passes_through_its_target() {
    let corpora = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fuzz/corpus");
    for (name, run) in entries::TARGETS {
        let folder = std::fs::read_dir(corpora.join(name));
        let files: Vec<_> = folder.into_iter().flatten().flatten().collect();
        assert!(!files.is_empty(), "no corpus for {name}");
        for file in files {
            run(&std::fs::read(file.path()).unwrap_or_default());
        }
    }
}
