//! Words for messages: what would have done, and texts cut to a readable length.

/// Longest piece of the user's text repeated in a message.
const SHOWN_CHARS_MAX: usize = 60;
/// Most alternatives listed when none is near.
const LISTED_MAX: usize = 12;

/// At most [`SHOWN_CHARS_MAX`] characters of the user's text, without control characters.
pub(crate) fn shorten(text: &str) -> String {
    let clean = |c: char| if c.is_control() { ' ' } else { c };
    let mut shown: String = text.chars().take(SHOWN_CHARS_MAX).map(clean).collect();
    if text.chars().nth(SHOWN_CHARS_MAX).is_some() {
        shown.push('…');
    }
    shown
}

/// "`listen`" where that is near, else the list of what would do.
pub(crate) fn one_of(word: &str, known: &[&str]) -> String {
    if let Some(name) = policy::error::nearest(word, known.iter().copied()) {
        return format!("`{name}`");
    }
    let mut names: Vec<String> = known.iter().map(|name| format!("`{name}`")).collect();
    if names.len() > LISTED_MAX {
        names.truncate(LISTED_MAX);
        names.push("…".to_owned());
    }
    match names.as_slice() {
        [] => "nothing here".to_owned(),
        [one] => one.clone(),
        many => format!("one of {}", many.join(", ")),
    }
}
