//! Progress bars and log lines on standard error. What cannot be written is dropped.

use std::{
    fmt::Display,
    io::{Result, Write},
    sync::OnceLock,
};

use console::Term;
use indicatif::{MultiProgress, ProgressDrawTarget, TermLike};

use crate::stdio;

/// All progress bars.
pub(super) fn bars() -> &'static MultiProgress {
    static BARS: OnceLock<MultiProgress> = OnceLock::new();
    BARS.get_or_init(|| {
        let terminal = || ProgressDrawTarget::term_like_with_hz(Box::new(Terminal(Term::buffered_stderr())), 20);
        let hidden = ProgressDrawTarget::hidden;
        MultiProgress::with_draw_target(if stdio::is_terminal() { terminal() } else { hidden() })
    })
}

/// Writes a line above the bars.
pub(super) fn line(text: impl Display) {
    bars().suspend(|| stdio::line(text));
}

/// Writes log lines above the bars.
pub(super) struct Log;

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> Result<usize> {
        bars().suspend(|| stdio::log(bytes));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> Result<()> {
        Ok(())
    }
}

/// A terminal without errors. indicatif panics if one cannot be written, as a closed one cannot.
#[derive(Debug)]
struct Terminal(Term);

fn dropped(_: Result<()>) -> Result<()> {
    Ok(())
}

impl TermLike for Terminal {
    fn width(&self) -> u16 {
        self.0.size().1
    }

    fn height(&self) -> u16 {
        self.0.size().0
    }

    fn move_cursor_up(&self, n: usize) -> Result<()> {
        dropped(self.0.move_cursor_up(n))
    }

    fn move_cursor_down(&self, n: usize) -> Result<()> {
        dropped(self.0.move_cursor_down(n))
    }

    fn move_cursor_right(&self, n: usize) -> Result<()> {
        dropped(self.0.move_cursor_right(n))
    }

    fn move_cursor_left(&self, n: usize) -> Result<()> {
        dropped(self.0.move_cursor_left(n))
    }

    fn write_line(&self, text: &str) -> Result<()> {
        dropped(self.0.write_line(text))
    }

    fn write_str(&self, text: &str) -> Result<()> {
        dropped(self.0.write_str(text))
    }

    fn clear_line(&self) -> Result<()> {
        dropped(self.0.clear_line())
    }

    fn flush(&self) -> Result<()> {
        dropped(self.0.flush())
    }
}
