//! How wide lines may be.

use std::io::IsTerminal as _;

/// Columns of a terminal that does not say how many it has.
const COLUMNS: usize = 80;

/// `$COLUMNS`, else the columns of the terminal that stdout is; `None` where lines may have any length.
pub fn columns() -> Option<usize> {
    let wanted = std::env::var("COLUMNS").ok().and_then(|columns| columns.parse().ok());
    if wanted.is_some_and(|columns: usize| columns > 0) {
        return wanted;
    }
    let stdout = std::io::stdout();
    if !stdout.is_terminal() {
        return None;
    }
    let size = rustix::termios::tcgetwinsize(&stdout).ok();
    Some(size.map(|size| usize::from(size.ws_col)).filter(|columns| *columns > 0).unwrap_or(COLUMNS))
}
