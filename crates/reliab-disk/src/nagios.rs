//! One line for monitoring systems, with performance data, as the guidelines of monitoring plugins have it.

use crate::report::{MountReport, Report, name_of};

/// Things that are named in the line; of more only the number is.
const NAMED: usize = 5;

/// The line.
pub(crate) fn line(report: &Report) -> String {
    let level = report.level().name().to_uppercase();
    let data: Vec<String> = report.mounts.iter().flat_map(performance).chain(sizes(report)).collect();
    let line = format!("DISK {level} - {}", plain(&text(report)));
    if data.is_empty() { line } else { format!("{line} | {}", data.join(" ")) }
}

fn text(report: &Report) -> String {
    let troubles = report.troubles();
    if troubles.is_empty() {
        let fullest =
            report.mounts.iter().max_by_key(|mount| mount.space.and_then(|space| space.used_percent()));
        let fullest = fullest.map(|mount| format!(", {}: {}", name_of(mount.point()), mount.summary()));
        let count = report.mounts.len();
        let noun = if count == 1 { "file system" } else { "file systems" };
        return format!("{count} {noun}{}", fullest.unwrap_or_default());
    }
    let mut parts: Vec<String> =
        troubles.iter().take(NAMED).map(|(_, name, text)| format!("{name}: {text}")).collect();
    if let Some(more @ 1..) = troubles.len().checked_sub(NAMED) {
        parts.push(format!("and {more} more"));
    }
    parts.join("; ")
}

/// What a mount has free in bytes and uses of its inodes in percent, each with its thresholds.
fn performance(mount: &MountReport) -> Vec<String> {
    let Some(space) = &mount.space else { return Vec::new() };
    let name = name_of(mount.point());
    let (warn, critical) = (&mount.limits.warn, &mount.limits.critical);
    let (warn_bytes, critical_bytes) = mount.limits.bytes(space);
    let mut data = vec![format!(
        "{}={}B;{}:;{}:;0;{}",
        label(&format!("{name} free")),
        space.free,
        // `N:` alarms below N, and the level is reached at its threshold.
        warn_bytes.saturating_add(1),
        critical_bytes.saturating_add(1),
        space.usable()
    )];
    if let Some(used) = space.inodes_used_percent() {
        let percent = |part: f64| part * 100.0;
        data.push(format!(
            "{}={used}%;{:.0};{:.0};0;100",
            label(&format!("{name} inodes")),
            percent(warn.inodes),
            percent(critical.inodes)
        ));
    }
    data
}

fn sizes(report: &Report) -> impl Iterator<Item = String> {
    report.sizes.iter().flat_map(|size| {
        let name = format!("{} {}", size.kind, size.name);
        size.figures
            .0
            .iter()
            .map(move |(figure, value)| format!("{}={value}B", label(&format!("{name} {figure}"))))
    })
}

/// A label in quotes, without what would end it or the text.
fn label(name: &str) -> String {
    format!("'{}'", plain(name).replace('\'', "''").replace('=', "_"))
}

/// Text in which nothing begins the performance data or a second line.
fn plain(text: &str) -> String {
    text.replace('|', "/").replace(char::is_control, "?")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::judge::{Finding, Memory};
    use crate::limits::Limits;
    use crate::mounts::Target;
    use crate::space::Space;
    use reliab_common::config::Disk;
    use reliab_common::exit::Level;

    fn report(point: &str, level: Level) -> MountReport {
        let finding = Finding { level, text: "so|so".into() };
        MountReport {
            target: Target::Absent(point.into()),
            space: Some(Space { size: 1000, unused: 500, free: 400, inodes: 100, inodes_free: 90 }),
            forecast: None,
            findings: if level == Level::Ok { Vec::new() } else { vec![finding] },
            limits: Limits::of(&Disk::default(), None).unwrap(),
            memory: Memory::default(),
        }
    }

    fn of(mounts: Vec<MountReport>) -> String {
        line(&Report { mounts, sizes: Vec::new() })
    }

    #[test]
    fn the_line_has_a_text_and_performance_data() {
        assert_eq!(
            of(vec![report("/", Level::Ok)]),
            "DISK OK - 1 file system, /: 56% used, 400 B free \
             | '/ free'=400B;181:;91:;0;900 '/ inodes'=10%;80;90;0;100"
        );
        assert_eq!(of(vec![]), "DISK OK - 0 file systems");
    }

    #[test]
    fn the_worst_comes_first_and_names_cannot_break_the_line() {
        let line = of(vec![report("/a", Level::Warning), report("/o'b=c|\n", Level::Critical)]);
        let (text, data) = line.split_once(" | ").unwrap();
        assert_eq!(text, "DISK CRITICAL - /o'b=c/?: so/so; /a: so/so");
        assert!(data.contains("'/o''b_c/? free'=400B"), "{data}");
        let many = of((0..8).map(|n| report(&format!("/{n}"), Level::Unknown)).collect());
        assert!(many.starts_with("DISK UNKNOWN - /0: so/so; ") && many.contains("; and 3 more | "), "{many}");
    }
}
