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
    let name = |column: usize| head[column].trim_start_matches('>');
    let width = |column: usize| {
        let cells = rows.iter().map(|row| row[column].chars().count());
        cells.chain([name(column).len()]).max().unwrap_or(0)
    };
    let widths: [usize; N] = std::array::from_fn(width);
    let line = |cell: &dyn Fn(usize) -> String| {
        let cells: Vec<String> = (0..N)
            .map(|column| {
                let (cell, width) = (cell(column), widths[column]);
                let right = head[column].starts_with('>');
                if right { format!("{cell:>width$}") } else { format!("{cell:<width$}") }
            })
            .collect();
        cells.join("  ").trim_end().to_owned()
    };
    let heads = line(&|column| name(column).to_owned());
    [heads].into_iter().chain(rows.iter().map(|row| line(&|column| row[column].clone()))).collect()
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
