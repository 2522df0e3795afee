//! A bar on standard error that shows how far something is, where a person watches.
//!
//! There is one only at a terminal that can draw a line anew (not with `TERM=dumb`), without colours.
//! It is gone when it is dropped, so that what is printed after begins on a clean line; a command that
//! is interrupted while it shows one ends by [`interruptible`], which drops it.

use std::borrow::Cow;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::exit::{Exit, Failure};
use crate::output;
use crate::signals::Signals;

/// A bar with a text behind it; of what has no known end, the text alone.
#[derive(Debug)]
pub(crate) struct Bar {
    bar: ProgressBar,
    has_length: bool,
}

impl Bar {
    /// A bar, if standard error is where one can be seen.
    pub(crate) fn new() -> Option<Self> {
        let target = ProgressDrawTarget::stderr();
        if target.is_hidden() {
            return None;
        }
        let bar = ProgressBar::with_draw_target(None, target);
        bar.set_style(style("{wide_msg}"));
        Some(Bar { bar, has_length: false })
    }

    /// Shows this text, of which the terminal's width is seen.
    pub(crate) fn text(&self, text: impl Into<Cow<'static, str>>) {
        self.bar.set_message(text);
        self.bar.tick();
    }

    /// Shows how far it is, and this text.
    pub(crate) fn at(&mut self, done: u64, of: u64, text: impl Into<Cow<'static, str>>) {
        if !std::mem::replace(&mut self.has_length, true) {
            self.bar.set_style(style("[{bar:24}] {wide_msg}").progress_chars("=> "));
        }
        self.bar.set_length(of.max(1));
        self.bar.set_position(done.min(of));
        self.text(text);
    }

    /// Does something while the bar is away, such as printing a line that stays.
    pub(crate) fn aside<T>(&self, act: impl FnOnce() -> T) -> T {
        self.bar.suspend(act)
    }
}

/// How far something is, for a person: a bar at a terminal, elsewhere a note each time that it changes.
#[derive(Debug)]
pub(crate) struct Steps(Option<Bar>);

impl Steps {
    pub(crate) fn new() -> Self {
        Steps(Bar::new())
    }

    /// It is so far.
    pub(crate) fn at(&mut self, done: u64, of: u64, text: String) {
        match &mut self.0 {
            Some(bar) => bar.at(done, of, text),
            None => output::note(&text),
        }
    }

    /// Says something that stays, whatever comes after.
    pub(crate) fn say<T>(&self, act: impl FnOnce() -> T) -> T {
        match &self.0 {
            Some(bar) => bar.aside(act),
            None => act(),
        }
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

fn style(template: &'static str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}

/// Does something that may show a bar: when it is interrupted the bar goes, and the command ends with
/// the signal's code and without a word, as one without a bar does.
pub(crate) async fn interruptible(
    act: impl Future<Output = Result<(), Failure>>,
) -> Result<(), Failure> {
    if ProgressDrawTarget::stderr().is_hidden() {
        return act.await;
    }
    let mut signals = Signals::catch()
        .map_err(|error| Failure::refused(format!("signals can't be caught: {error}")))?;
    tokio::select! {
        biased;
        asked = signals.next() => Err(Failure::silent(Exit::Signal(asked.number()))),
        done = act => done,
    }
}
