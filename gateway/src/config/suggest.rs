//! Words for messages: the nearest known name, and texts cut to a readable length.

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

/// The known name nearest to `word`, if it is near enough to be a slip.
pub(crate) fn nearest<'k>(word: &str, known: &[&'k str]) -> Option<&'k str> {
    let allowed = (word.chars().count() / 3).clamp(1, 3);
    known
        .iter()
        .map(|name| (distance(word, name), *name))
        .filter(|(distance, _)| *distance <= allowed)
        .min()
        .map(|(_, name)| name)
}

/// "`listen`" where that is near, else the list of what would do.
pub(crate) fn one_of(word: &str, known: &[&str]) -> String {
    if let Some(name) = nearest(word, known) {
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

/// Edits between two words, a swap of neighbours counted as two.
fn distance(left: &str, right: &str) -> usize {
    let right: Vec<char> = right.chars().collect();
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (line, a) in left.chars().take(SHOWN_CHARS_MAX).enumerate() {
        let mut diagonal = line;
        let mut before = line + 1;
        for (cell, b) in row.iter_mut().skip(1).zip(&right) {
            let above = *cell;
            let replaced = diagonal + usize::from(a != *b);
            before = replaced.min(above + 1).min(before + 1);
            diagonal = above;
            *cell = before;
        }
        if let Some(first) = row.first_mut() {
            *first = line + 1;
        }
    }
    row.last().copied().unwrap_or(0)
}
