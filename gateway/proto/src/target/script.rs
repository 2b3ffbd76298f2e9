//! Names that mix scripts within a label, as look-alikes of known names do (UTS 39 section 5).

use unicode_script::{Script, ScriptExtension, UnicodeScript};

/// Whether a label of `name`, given in A-labels, mixes scripts that no writing system mixes.
/// Latin with Han and the scripts of Japanese, Korean or Bopomofo is a writing system
/// ("highly restrictive", UTS 39 section 5.2).
#[must_use]
pub fn is_mixed_script(name: &str) -> bool {
    if !name.split('.').any(|label| label.starts_with("xn--")) {
        return false;
    }
    let (unicode, _) = idna::domain_to_unicode(name);
    unicode.split('.').any(|label| !label.is_ascii() && mixes(label))
}

fn mixes(label: &str) -> bool {
    let common = label.chars().fold(ScriptExtension::from(Script::Common), |common, it| {
        common.intersection(it.script_extension())
    });
    if !common.is_empty() {
        return false;
    }
    !WRITING_SYSTEMS.iter().any(|scripts| {
        label.chars().all(|it| {
            let extension = it.script_extension();
            scripts.iter().any(|script| extension.contains_script(*script))
        })
    })
}

const WRITING_SYSTEMS: [&[Script]; 3] = [
    &[Script::Latin, Script::Han, Script::Hiragana, Script::Katakana],
    &[Script::Latin, Script::Han, Script::Bopomofo],
    &[Script::Latin, Script::Han, Script::Hangul],
];
