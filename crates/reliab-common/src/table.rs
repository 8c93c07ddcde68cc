//! Tables and lines that fit a terminal.

use std::io::IsTerminal as _;

/// Columns of a terminal that does not say how many it has.
const COLUMNS: usize = 80;

/// The columns of the terminal that stdout is; `None` if it is none, so that nothing is to be cut.
pub fn columns() -> Option<usize> {
    let stdout = std::io::stdout();
    if !stdout.is_terminal() {
        return None;
    }
    let size = rustix::termios::tcgetwinsize(&stdout).ok();
    Some(size.map(|size| usize::from(size.ws_col)).filter(|columns| *columns > 0).unwrap_or(COLUMNS))
}

/// The text on one line, cut to so many characters.
pub fn fit(text: &str, width: usize) -> String {
    let text: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    if text.chars().count() <= width {
        return text;
    }
    text.chars().take(width.saturating_sub(1)).chain(['…']).collect()
}

/// Lines of a table; a column whose head begins with `>` is set to the right.
pub fn table<const N: usize>(head: [&str; N], rows: &[[String; N]]) -> Vec<String> {
    let widths = widths(&head, rows);
    lines(&head, rows, &(0..N).zip(widths).collect::<Vec<_>>(), &[])
}

/// How a table gives way where it is too wide.
pub struct Narrowing<'a> {
    /// Columns to leave out, in this order.
    pub drop: &'a [usize],
    /// Columns whose cells may be shortened, in this order, and to what width.
    pub shorten: &'a [(usize, usize)],
    /// Those of which the beginning stays; of the others the end does, which tells paths apart.
    pub begin: &'a [usize],
}

/// Lines of a table in so many columns, if it can be made to fit.
pub fn table_within<const N: usize>(
    head: [&str; N],
    rows: &[[String; N]],
    columns: usize,
    narrowing: &Narrowing<'_>,
) -> Vec<String> {
    let mut kept: Vec<(usize, usize)> = (0..N).zip(widths(&head, rows)).collect();
    let total =
        |kept: &[(usize, usize)]| kept.iter().map(|(_, width)| width + 2).sum::<usize>().saturating_sub(2);
    let least = |column: usize| narrowing.shorten.iter().find(|(c, _)| *c == column).map(|(_, width)| *width);
    let gives = |&(column, width): &(usize, usize)| width - least(column).unwrap_or(width).min(width);
    for dropped in narrowing.drop {
        if total(&kept) - kept.iter().map(gives).sum::<usize>() <= columns {
            break;
        }
        kept.retain(|(column, _)| column != dropped);
    }
    let mut excess = total(&kept).saturating_sub(columns);
    for (column, _) in narrowing.shorten {
        for place in kept.iter_mut().filter(|(c, _)| c == column) {
            let cut = gives(place).min(excess);
            place.1 -= cut;
            excess -= cut;
        }
    }
    lines(&head, rows, &kept, narrowing.begin)
}

fn name<'a>(head: &[&'a str], column: usize) -> &'a str {
    head[column].trim_start_matches('>')
}

fn widths<const N: usize>(head: &[&str; N], rows: &[[String; N]]) -> [usize; N] {
    std::array::from_fn(|column| {
        let cells = rows.iter().map(|row| row[column].chars().count());
        cells.chain([name(head, column).len()]).max().unwrap_or(0)
    })
}

/// The head and the rows in these columns and widths.
fn lines<const N: usize>(
    head: &[&str; N],
    rows: &[[String; N]],
    columns: &[(usize, usize)],
    begin: &[usize],
) -> Vec<String> {
    let line = |cell: &dyn Fn(usize) -> String| {
        let cells: Vec<String> = columns
            .iter()
            .map(|&(column, width)| {
                let cell = cell(column);
                let cell = if begin.contains(&column) { fit(&cell, width) } else { clipped(&cell, width) };
                let right = head[column].starts_with('>');
                if right { format!("{cell:>width$}") } else { format!("{cell:<width$}") }
            })
            .collect();
        cells.join("  ").trim_end().to_owned()
    };
    let heads = line(&|column| name(head, column).to_owned());
    [heads].into_iter().chain(rows.iter().map(|row| line(&|column| row[column].clone()))).collect()
}

/// A text of at most `width` characters; of a longer one the end, which tells paths apart.
fn clipped(text: &str, width: usize) -> String {
    let len = text.chars().count();
    if len <= width {
        return text.to_owned();
    }
    ['…'].into_iter().chain(text.chars().skip(len + 1 - width.max(1))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_as_wide_as_its_widest_cells() {
        let rows = [["a".to_owned(), "1".to_owned()], ["bcd".to_owned(), "1,000".to_owned()]];
        assert_eq!(table(["ID", ">N"], &rows), ["ID       N", "a        1", "bcd  1,000"]);
    }

    #[test]
    fn a_table_that_is_too_wide_shortens_and_drops_columns() {
        let rows = [["1".to_owned(), "22222".to_owned(), "/srv/app/data".to_owned()]];
        let narrowing = Narrowing { drop: &[1], shorten: &[(2, 6)], begin: &[] };
        let check = |columns, expected: [&str; 2]| {
            let lines = table_within(["A", ">N", "PATH"], &rows, columns, &narrowing);
            assert_eq!(lines, expected, "{columns}");
            assert!(lines.iter().all(|line| line.chars().count() <= columns));
        };
        check(23, ["A      N  PATH", "1  22222  /srv/app/data"]);
        check(22, ["A      N  PATH", "1  22222  …rv/app/data"]);
        check(16, ["A      N  PATH", "1  22222  …/data"]);
        check(15, ["A  PATH", "1  …rv/app/data"]);
        check(9, ["A  PATH", "1  …/data"]);
    }

    #[test]
    fn of_some_columns_the_beginning_stays() {
        let rows = [["a long text".to_owned(), "/srv/app/data".to_owned()]];
        let narrowing = Narrowing { drop: &[], shorten: &[(0, 6), (1, 6)], begin: &[0] };
        assert_eq!(table_within(["A", "B"], &rows, 14, &narrowing), ["A       B", "a lon…  …/data"]);
    }

    #[test]
    fn a_line_is_one_line_and_no_longer_than_told() {
        assert_eq!(fit("one\ntwo", 80), "one two");
        assert_eq!(fit("größer", 6), "größer");
        assert_eq!(fit("größer", 5), "größ…");
        assert_eq!(fit("a", 0), "…");
    }
}
