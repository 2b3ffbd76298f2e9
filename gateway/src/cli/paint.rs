//! Colours on a terminal, by what they say.

use crate::event::printable;

/// What a colour says.
#[derive(Clone, Copy)]
pub(super) enum Colour {
    Dim,
    Good,
    Warning,
    Bad,
    Notice,
}

impl Colour {
    fn code(self) -> &'static str {
        match self {
            Self::Dim => "2",
            Self::Good => "32",
            Self::Warning => "33",
            Self::Bad => "31",
            Self::Notice => "35",
        }
    }

    /// The colour of a verdict.
    pub(super) fn of_action(action: &str) -> Self {
        match action {
            "block" => Self::Bad,
            "coach" | "alert" | "redirect" | "pending" => Self::Warning,
            "bypass" => Self::Notice,
            _ => Self::Good,
        }
    }
}

/// A word in a colour where there is a terminal. No byte of it can move the cursor.
pub(super) fn painted(colour: Colour, word: &str, terminal: bool) -> String {
    let word = printable(word);
    if terminal { format!("\u{1b}[{}m{word}\u{1b}[0m", colour.code()) } else { word.into_owned() }
}
