//! Where a person reads: how wide it is, whether it shows colours, and tables that fit.
//!
//! What goes elsewhere than to a terminal has no width and not one escape byte. Colours are for words
//! that say how something is, and never the only sign of it; `NO_COLOR` and `TERM=dumb` turn them off.

use std::borrow::Cow;
use std::io::{self, IsTerminal};

use console::{Color, Style, Term, measure_text_width, truncate_str};

/// Less of a column says nothing any more.
const COLUMN_MIN: usize = 4;
/// Between two columns.
const GAP: usize = 2;

/// The standard output, as far as it matters to what is written there.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Screen {
    /// Columns and rows of a terminal.
    size: Option<(usize, usize)>,
    has_colours: bool,
}

impl Screen {
    /// As it is at the moment: a window may have another size by the next time.
    pub(crate) fn here() -> Self {
        let is_terminal = io::stdout().is_terminal();
        let size = Term::stdout().size_checked().filter(|_| is_terminal);
        let size = size.map(|(rows, columns)| (usize::from(columns), usize::from(rows)));
        // What has no columns is a terminal of which nothing is known.
        let size = size.filter(|(columns, rows)| *columns > 0 && *rows > 0);
        Screen { size, has_colours: is_terminal && draws() && !is_set("NO_COLOR") }
    }

    /// Whether lines can be drawn anew where they stand.
    pub(crate) fn redraws(&self) -> bool {
        self.size.is_some() && draws()
    }

    /// How many lines are seen at once.
    pub(crate) fn rows(&self) -> Option<usize> {
        self.size.map(|(_, rows)| rows)
    }

    /// Rows under a heading, each column as wide as its widest cell, or less where a terminal is not
    /// wide enough for all: then the widest are cut, to no less than their headings as long as that is
    /// enough.
    pub(crate) fn table(&self, rows: &[Vec<String>]) -> String {
        let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
        let width = |column: usize| {
            let cells = rows.iter().filter_map(|row| row.get(column));
            cells.map(|cell| measure_text_width(cell)).max().unwrap_or(0)
        };
        let mut widths: Vec<usize> = (0..columns).map(width).collect();
        if let Some((most, _)) = self.size {
            let headings = rows.first().into_iter().flatten().map(|cell| measure_text_width(cell));
            let mut least: Vec<usize> = headings.map(|width| width.max(COLUMN_MIN)).collect();
            least.resize(columns, COLUMN_MIN);
            fit(&mut widths, &least, most);
            fit(&mut widths, &vec![COLUMN_MIN; columns], most);
        }
        let lines: Vec<String> = rows.iter().map(|row| self.row(row, &widths)).collect();
        lines.join("\n")
    }

    fn row(&self, row: &[String], widths: &[usize]) -> String {
        let mut line = String::new();
        for (at, (cell, width)) in row.iter().zip(widths).enumerate() {
            let cut = truncate_str(cell, *width, "…");
            let is_last = row[at + 1..].iter().all(String::is_empty);
            line.push_str(&self.painted(&cut));
            if is_last {
                break;
            }
            let spaces = width.saturating_sub(measure_text_width(&cut)) + GAP;
            line.extend(std::iter::repeat_n(' ', spaces));
        }
        line
    }

    /// A word that says how something is, in its colour.
    pub(crate) fn painted<'a>(&self, cell: &'a str) -> Cow<'a, str> {
        match colour_of(cell).filter(|_| self.has_colours) {
            None => Cow::Borrowed(cell),
            Some(colour) => {
                let style = Style::new().fg(colour).force_styling(true);
                Cow::Owned(style.apply_to(cell).to_string())
            }
        }
    }

    /// A sentence on as many lines as it takes, each after the first further to the right.
    pub(crate) fn wrapped(&self, text: &str, indent: usize) -> String {
        let Some((most, _)) = self.size else { return text.to_owned() };
        let (mut lines, mut line) = (Vec::new(), String::new());
        for word in text.split(' ') {
            let taken = measure_text_width(&line) + 1 + measure_text_width(word);
            if !line.trim().is_empty() && taken > most {
                let next = " ".repeat(indent);
                lines.push(std::mem::replace(&mut line, next));
            } else if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
        lines.push(line);
        // A word that is wider than the terminal.
        let cut = lines.iter().map(|line| truncate_str(line, most, "…"));
        cut.collect::<Vec<_>>().join("\n")
    }
}

/// Whether the terminal, if there is one, can do more than print lines.
fn draws() -> bool {
    std::env::var_os("TERM").is_some_and(|term| term != "dumb")
}

/// Whether a variable is there, and not empty.
fn is_set(name: &str) -> bool {
    std::env::var_os(name).is_some_and(|value| !value.is_empty())
}

fn colour_of(cell: &str) -> Option<Color> {
    match cell {
        "healthy" | "up" | "active" | "ready" | "settled" | "done" => Some(Color::Green),
        "suspect" | "degraded" | "draining" | "leaving" | "maintenance" | "waiting"
        | "candidate" | "starting" | "repaired" => Some(Color::Yellow),
        "dead" | "unhealthy" | "damaged" | "stopped" | "none" | "not ready" | "down" => {
            Some(Color::Red)
        }
        _ => None,
    }
}

/// Takes from the widest columns that may be less wide, until all are within the width.
fn fit(widths: &mut [usize], least: &[usize], most: usize) {
    let gaps = GAP * widths.len().saturating_sub(1);
    while widths.iter().sum::<usize>() + gaps > most {
        let wide = widths.iter_mut().zip(least).filter(|(width, least)| **width > **least);
        let Some((widest, _)) = wide.max_by_key(|(width, _)| **width) else { return };
        *widest -= 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row<const N: usize>(cells: [&str; N]) -> Vec<String> {
        cells.map(str::to_owned).to_vec()
    }

    fn of(columns: usize) -> Screen {
        Screen { size: Some((columns, 24)), has_colours: false }
    }

    const NOWHERE: Screen = Screen { size: None, has_colours: false };

    #[test]
    fn the_widest_column_is_cut_and_only_at_a_terminal() {
        let rows = [row(["NODE", "NAME", "STATE"]), row(["1", "日本日本日本日本", "active"])];
        let whole = NOWHERE.table(&rows);
        assert_eq!(whole, "NODE  NAME              STATE\n1     日本日本日本日本  active");
        let cut = of(24).table(&rows);
        assert_eq!(cut, "NODE  NAME        STATE\n1     日本日本…   active");
        assert!(cut.lines().all(|line| measure_text_width(line) <= 24));
        let heading = [row(["NODE", "A LONG HEADING", "NAME"]), row(["1", "2", "a long name"])];
        assert_eq!(
            of(28).table(&heading),
            "NODE  A LONG HEADING  NAME\n1     2               a lon…"
        );
    }

    #[test]
    fn sentences_are_wrapped_between_words() {
        assert_eq!(of(12).wrapped("one two three four", 2), "one two\n  three four");
        assert_eq!(NOWHERE.wrapped("one two three four", 2), "one two three four");
        assert_eq!(of(5).wrapped("abcdefgh ij", 0), "abcd…\nij");
    }

    #[test]
    fn only_words_of_state_have_colours_and_only_where_they_are_shown() {
        let screen = Screen { has_colours: true, ..of(80) };
        assert_eq!(screen.painted("dead"), "\u{1b}[31mdead\u{1b}[0m");
        assert_eq!(screen.painted("deadline"), "deadline");
        assert_eq!(of(80).painted("dead"), "dead");
    }
}
