//! How counts, paths and times look in text.

/// A count with commas between thousands.
pub(crate) fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A count and its noun, in the plural where it needs to be.
pub(crate) fn counted(number: u64, singular: &str, plural: &str) -> String {
    format!("{} {}", count(number), if number == 1 { singular } else { plural })
}

/// Lines of a table; a column whose head begins with `>` is set to the right.
pub(crate) fn table<const N: usize>(head: [&str; N], rows: &[[String; N]]) -> Vec<String> {
    let widths = widths(&head, rows);
    lines(&head, rows, &(0..N).zip(widths).collect::<Vec<_>>())
}

/// How a table gives way where it is too wide.
pub(crate) struct Narrowing<'a> {
    /// Columns to leave out, in this order.
    pub drop: &'a [usize],
    /// Columns whose cells may be shortened, in this order, and to what width.
    pub shorten: &'a [(usize, usize)],
}

/// Lines of a table in so many columns, if it can be made to fit.
pub(crate) fn table_within<const N: usize>(
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
    lines(&head, rows, &kept)
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
fn lines<const N: usize>(head: &[&str; N], rows: &[[String; N]], columns: &[(usize, usize)]) -> Vec<String> {
    let line = |cell: &dyn Fn(usize) -> String| {
        let cells: Vec<String> = columns
            .iter()
            .map(|&(column, width)| {
                let cell = clipped(&cell(column), width);
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
        let narrowing = Narrowing { drop: &[1], shorten: &[(2, 6)] };
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
    fn counts_have_commas_between_thousands() {
        let check = |number, expected: &str| assert_eq!(count(number), expected);
        check(0, "0");
        check(999, "999");
        check(1000, "1,000");
        check(83_730, "83,730");
        check(1_234_567, "1,234,567");
        assert_eq!(counted(1, "entry", "entries"), "1 entry");
        assert_eq!(counted(0, "entry", "entries"), "0 entries");
    }
}
