//! What a check found, as text that fits a terminal of 80 columns.

use reliab_common::exit::Level;
use reliab_common::ui::Ui;
use reliab_common::units;

use crate::report::{MountReport, Report, name_of};

/// The widest line.
const WIDTH: usize = 80;
/// A column of the table is no narrower than this, whatever the others take.
const NARROWEST: usize = 8;
const HEAD: [&str; 7] = ["LEVEL", "SIZE", "FREE", "USED", "INODES", "FULL IN", "MOUNT"];

/// Prints the report: a table of the file systems, then what is wrong, then the rest; when quiet only what is wrong.
pub(crate) fn print(report: &Report, ui: &mut Ui) {
    let quiet = ui.is_quiet();
    if !quiet && !report.mounts.is_empty() {
        lines(&report.mounts).iter().for_each(|line| ui.out(line));
    }
    if !quiet {
        for size in report.sizes.iter().filter(|size| size.level == Level::Ok) {
            ui.out(format_args!("{} {}: {}", size.kind, size.name, size.summary));
        }
    }
    for (level, name, text) in report.troubles() {
        ui.out(format_args!("{}: {name}: {text}", level.name().to_uppercase()));
    }
}

/// The lines of the table of file systems.
fn lines(mounts: &[MountReport]) -> Vec<String> {
    let rows: Vec<[String; 7]> = mounts.iter().map(cells).collect();
    let width = |column: usize| {
        let cells = rows.iter().map(|row| row[column].chars().count());
        cells.chain([HEAD[column].len()]).max().unwrap_or(0)
    };
    let mut widths: [usize; 7] = std::array::from_fn(width);
    let others: usize = widths[..6].iter().map(|width| width + 2).sum();
    widths[6] = WIDTH.saturating_sub(others).max(NARROWEST);
    let head = HEAD.map(str::to_owned);
    [&head].into_iter().chain(&rows).map(|row| line(row, &widths)).collect()
}

fn line(row: &[String; 7], widths: &[usize; 7]) -> String {
    let mut text = format!("{:<width$}", row[0], width = widths[0]);
    for column in 1..6 {
        text.push_str(&format!("  {:>width$}", row[column], width = widths[column]));
    }
    text.push_str("  ");
    text.push_str(&shortened(&row[6], widths[6]));
    text
}

fn cells(report: &MountReport) -> [String; 7] {
    let none = || "-".to_owned();
    let size = |size: Option<u64>| size.map_or_else(none, units::bytes);
    let percent = |percent: Option<u64>| percent.map_or_else(none, |percent| format!("{percent}%"));
    let space = report.space.as_ref();
    [
        report.level().name().to_owned(),
        size(space.map(|space| space.size)),
        size(space.map(|space| space.free)),
        percent(space.and_then(crate::space::Space::used_percent)),
        percent(space.and_then(crate::space::Space::inodes_used_percent)),
        report.forecast.map_or_else(none, |forecast| forecast.cell()),
        name_of(report.point()),
    ]
}

/// A path whose middle is left out where it is too long.
fn shortened(text: &str, width: usize) -> String {
    let count = text.chars().count();
    if count <= width {
        return text.to_owned();
    }
    let end = width / 2;
    let start = width - 1 - end;
    let head: String = text.chars().take(start).collect();
    let tail: String = text.chars().skip(count - end).collect();
    format!("{head}…{tail}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::forecast::Forecast;
    use crate::judge::{Finding, Memory};
    use crate::limits::Limits;
    use crate::mounts::Target;
    use crate::space::Space;
    use reliab_common::config::Disk;

    fn report(point: &str, space: Option<Space>, level: Level) -> MountReport {
        let finding = Finding { level, text: "so".into() };
        MountReport {
            target: Target::Absent(point.into()),
            space,
            forecast: space.map(|_| Forecast { earliest: 8.64e6, expected: 1e7, latest: 3.1e7 }),
            findings: if level == Level::Ok { Vec::new() } else { vec![finding] },
            limits: Limits::of(&Disk::default(), None).unwrap(),
            memory: Memory::default(),
        }
    }

    #[test]
    fn the_widest_figures_fit_80_columns() {
        let space =
            Space { size: 1023 << 30, unused: 1 << 29, free: 1023 << 20, inodes: 1000, inodes_free: 0 };
        let long = "/var/lib/containers/storage/overlay/0123456789abcdef/merged";
        let table = lines(&[report(long, Some(space), Level::Critical), report("/", None, Level::Ok)]);
        assert!(table.iter().all(|line| line.chars().count() <= WIDTH), "{table:#?}");
        assert_eq!(
            table,
            [
                "LEVEL           SIZE        FREE  USED  INODES    FULL IN  MOUNT",
                "critical  1023.0 GiB  1023.0 MiB  100%    100%  100-359 d  /var/lib/c…def/merged",
                "ok                 -           -     -       -          -  /",
            ]
        );
    }

    #[test]
    fn quiet_is_silent_when_all_is_well_and_tells_what_is_wrong() {
        let all = |level| Report { mounts: vec![report("/", None, level)], sizes: Vec::new() };
        let said = |level| {
            let options = reliab_common::ui::UiOptions { quiet: true, ..Default::default() };
            let mut ui = Ui::captured_with(options);
            print(&all(level), &mut ui);
            ui.captured_output().0
        };
        assert_eq!(said(Level::Ok), "");
        assert_eq!(said(Level::Warning), "WARNING: /: so\n");
    }
}
