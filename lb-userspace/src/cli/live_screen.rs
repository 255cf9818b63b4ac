//! The terminal: taken, drawn on, and given back as it was, on every path.

use std::io::{self, Write as _, stdout};

use crossterm::{
    cursor::{Hide, MoveTo, Show},
    execute, queue,
    style::{Attribute, Color, Print, ResetColor, SetAttribute, SetForegroundColor},
    terminal::{
        Clear, ClearType, EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode,
        enable_raw_mode, size,
    },
};

use super::top::picture::{Line, Tone};

/// Dropped, also when something panics, it gives the terminal back.
pub(super) struct Screen;

impl Screen {
    pub(super) fn enter() -> io::Result<Self> {
        enable_raw_mode()?;
        // From here on the drop undoes what was done.
        let screen = Self;
        execute!(stdout(), EnterAlternateScreen, Hide)?;
        Ok(screen)
    }

    /// Draws what is made for so many columns and rows.
    pub(super) fn draw(
        &mut self,
        picture: impl FnOnce(usize, usize) -> Vec<Line>,
    ) -> io::Result<()> {
        let (columns, rows) = size()?;
        let lines = picture(columns.into(), rows.into());
        let mut out = io::BufWriter::new(stdout().lock());
        for (row, Line { text, tone }) in (0..rows).zip(lines) {
            queue!(out, MoveTo(0, row))?;
            match tone {
                Tone::Plain => {}
                Tone::Strong => queue!(out, SetAttribute(Attribute::Bold))?,
                Tone::Good => queue!(out, SetForegroundColor(Color::Green))?,
                Tone::Warn => queue!(out, SetForegroundColor(Color::Yellow))?,
                Tone::Bad => queue!(out, SetForegroundColor(Color::Red))?,
                Tone::Faint => queue!(out, SetAttribute(Attribute::Dim))?,
                Tone::Selected => queue!(out, SetAttribute(Attribute::Reverse))?,
            }
            queue!(
                out,
                Print(text),
                SetAttribute(Attribute::Reset),
                ResetColor,
                Clear(ClearType::UntilNewLine)
            )?;
        }
        out.flush()
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // There is nobody to tell.
        let _ = execute!(stdout(), Show, LeaveAlternateScreen);
        let _ = disable_raw_mode();
    }
}
