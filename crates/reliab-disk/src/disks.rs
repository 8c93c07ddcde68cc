//! The file systems of a run: found, measured, compared with what the state knows of them.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use chrono::{DateTime, Utc};
use reliab_common::clock::Clock as _;
use reliab_common::config::disk::DiskMount;
use reliab_common::fact;
use reliab_common::session::Job;
use reliab_common::state::{State, StateError};
use reliab_common::ui::Ui;

use crate::answer::{Answer, Measure};
use crate::forecast::{Forecast, forecast};
use crate::history;
use crate::judge::{Evidence, Memory, judge};
use crate::layer;
use crate::limits::Limits;
use crate::mountinfo::{self, MountTable};
use crate::mounts::{self, Lookup, Target};
use crate::question::{NoAnswer, Question, absolute, ask};
use crate::report::{Asked, MountReport, SOURCE, SizeReport, missing, name_of};
use crate::space::Space;

/// Looks at the file systems of these paths, or at all of them.
pub(crate) fn look(
    paths: &[PathBuf],
    job: &Job<'_>,
    ui: &mut Ui,
) -> anyhow::Result<(Vec<MountReport>, Vec<SizeReport>)> {
    let config = &job.session.config.disk;
    let table =
        MountTable::read().with_context(|| format!("cannot read {}: is /proc mounted?", mountinfo::PATH))?;
    if table.unread > 0 {
        ui.warn(format_args!("{} lines of {} say something unknown", table.unread, mountinfo::PATH));
    }
    let (targets, absent) = if paths.is_empty() {
        (mounts::all(&table, config), Vec::new())
    } else {
        asked_for(paths, &table, job)?
    };
    // What was named is shown, whatever holds its files.
    let rooms = if paths.is_empty() { rooms(targets, &table, job)? } else { measured(targets, job)? };
    let rooms = mounted_by_now(rooms)?;
    let mut known = Known::of(job, ui);
    let now = job.session.clock.now();
    let reports = rooms.into_iter().map(|(target, space)| {
        let entry = config.mount.iter().find(|entry| entry.path == target.point());
        Ok(report(target, space, entry, &Limits::of(config, entry)?, &mut known, now, ui))
    });
    let reports: anyhow::Result<_> = reports.collect();
    Ok((reports?, absent.iter().map(|(path, reason)| missing(path, reason)).collect()))
}

fn report(
    target: Target,
    space: Result<Space, NoAnswer>,
    entry: Option<&DiskMount>,
    limits: &Limits,
    known: &mut Known<'_>,
    now: DateTime<Utc>,
    ui: &mut Ui,
) -> MountReport {
    let name = name_of(target.point());
    let memory = known.memory(&name);
    let kind = match &target {
        Target::Mounted(mount) => mount.kind.as_str(),
        Target::Absent(_) => "",
    };
    let forecast = space.as_ref().ok().and_then(|space| known.forecast((&name, kind), space, now, ui));
    let evidence = Evidence { target: &target, entry, limits, space: &space, forecast, memory };
    let (findings, memory) = judge(&evidence);
    MountReport { space: space.ok(), forecast, findings, limits: limits.clone(), memory, target }
}

/// The mounts of the paths that were asked for, and the paths that lead nowhere.
fn asked_for(paths: &[PathBuf], table: &MountTable, job: &Job<'_>) -> anyhow::Result<Asked> {
    let lookup = Lookup::of(table);
    let config = &job.session.config.disk;
    let paths: Vec<PathBuf> = paths.iter().map(|path| absolute(path)).collect();
    let must_be = |path: &Path| config.mount.iter().any(|entry| entry.path == path);
    let is_elsewhere = |path: &&PathBuf| lookup.at(path).is_none() && !must_be(path);
    let deadline = config.deadline;
    let elsewhere: Vec<Question> = paths
        .iter()
        .filter(is_elsewhere)
        .map(|path| Question { what: Measure::Path, path: path.clone(), deadline })
        .collect();
    let found: HashMap<PathBuf, _> =
        elsewhere.iter().map(|question| question.path.clone()).zip(ask(&elsewhere, job)?).collect();
    let (mut targets, mut absent): Asked = Default::default();
    for path in paths {
        let holder = match found.get(&path) {
            None => lookup.at(&path),
            Some(Ok(Answer::Path { found, exists: true, .. })) => lookup.holder(Path::new(found)),
            Some(Err(error)) => {
                absent.push((path, error.text().to_owned()));
                continue;
            }
            Some(Ok(_)) => {
                absent.push((path, "there is no such file or directory".to_owned()));
                continue;
            }
        };
        targets.push(holder.map_or(Target::Absent(path), |mount| Target::Mounted(mount.clone())));
    }
    targets.sort_by(|a, b| a.point().cmp(b.point()));
    targets.dedup_by(|a, b| a.point() == b.point());
    Ok((targets, absent))
}

/// A target and its room.
type Room = (Target, Result<Space, NoAnswer>);

/// The targets with their rooms, without the overlays whose room is that of another target.
///
/// Overlays are asked last, and only where what seems to hold their files answered: it stands for them otherwise, or
/// each container on a dead disk would leave a process behind.
fn rooms(targets: Vec<Target>, table: &MountTable, job: &Job<'_>) -> anyhow::Result<Vec<Room>> {
    let config = &job.session.config.disk;
    let below: Vec<Option<usize>> =
        targets.iter().map(|target| layer::below(target, &targets, table, config)).collect();
    let holders: Vec<Option<PathBuf>> =
        below.iter().map(|at| at.map(|at| targets[at].point().to_owned())).collect();
    let (overlays, others): (Vec<_>, Vec<_>) =
        targets.into_iter().zip(holders).partition(|(_, holder)| holder.is_some());
    let mut rooms = measured(others.into_iter().map(|(target, _)| target).collect(), job)?;
    let room_at = |point: &Path| {
        let room = rooms.iter().find(|(target, _)| target.point() == point);
        room.and_then(|(_, space)| space.as_ref().ok()).copied()
    };
    let (overlays, holders): (Vec<Target>, Vec<Space>) =
        overlays.into_iter().filter_map(|(target, holder)| Some((target, room_at(&holder?)?))).unzip();
    let overlays = measured(overlays, job)?.into_iter().zip(holders);
    let own = |(room, holder): (Room, Space)| {
        let is_shared = room.1.as_ref().is_ok_and(|space| layer::is_same(space, &holder));
        (!is_shared).then_some(room)
    };
    rooms.extend(overlays.filter_map(own));
    rooms.sort_by(|(a, _), (b, _)| a.point().cmp(b.point()));
    Ok(rooms)
}

/// Rooms with the mounts as they are now that they were measured, which mounts what waited to be used.
fn mounted_by_now(rooms: Vec<Room>) -> anyhow::Result<Vec<Room>> {
    if !rooms.iter().any(|(target, _)| is_idle(target)) {
        return Ok(rooms);
    }
    let table = MountTable::read().with_context(|| format!("cannot read {} again", mountinfo::PATH))?;
    Ok(rooms.into_iter().map(|(target, space)| (awake(target, &table), space)).collect())
}

/// Whether it is an automount that nobody used yet.
fn is_idle(target: &Target) -> bool {
    matches!(target, Target::Mounted(mount) if mount.kind == "autofs")
}

/// What is mounted at an automount by now.
fn awake(target: Target, table: &MountTable) -> Target {
    if !is_idle(&target) {
        return target;
    }
    let now = Lookup::of(table).at(target.point()).cloned();
    now.map_or(target, Target::Mounted)
}

/// The room of each target, asked for all at the same time.
fn measured(targets: Vec<Target>, job: &Job<'_>) -> anyhow::Result<Vec<Room>> {
    let deadline = job.session.config.disk.deadline;
    let question =
        |target: &Target| Question { what: Measure::Mount, path: target.point().to_owned(), deadline };
    let mounted = targets.iter().filter(|target| matches!(target, Target::Mounted(_)));
    let questions: Vec<Question> = mounted.map(question).collect();
    let mut answers = ask(&questions, job)?.into_iter();
    let space = |target: &Target| match target {
        Target::Absent(_) => Err(NoAnswer::Failed("not mounted".to_owned())),
        Target::Mounted(_) => match answers.next() {
            Some(Ok(Answer::Mount(space))) => Ok(space),
            Some(Err(error)) => Err(error),
            _ => Err(NoAnswer::Unknown("it was not measured".to_owned())),
        },
    };
    let spaces: Vec<_> = targets.iter().map(space).collect();
    Ok(targets.into_iter().zip(spaces).collect())
}

/// What the state knows of earlier checks.
struct Known<'a> {
    state: Option<&'a State>,
    memories: HashMap<String, Memory>,
}

impl<'a> Known<'a> {
    fn of(job: &'a Job<'_>, ui: &mut Ui) -> Self {
        let state = job.recorder.state();
        let memories = state.map_or_else(|| Ok(HashMap::new()), memories).unwrap_or_else(|error| {
            ui.warn(format_args!("the last levels are not known: {error}"));
            HashMap::new()
        });
        Self { state, memories }
    }

    fn memory(&self, name: &str) -> Memory {
        self.memories.get(name).copied().unwrap_or_default()
    }

    /// The forecast of a mount; after the first failure to read its history there is none for any.
    fn forecast(
        &mut self,
        (name, kind): (&str, &str),
        space: &Space,
        now: DateTime<Utc>,
        ui: &mut Ui,
    ) -> Option<Forecast> {
        match history::used(self.state?, name, kind, space, now) {
            Ok(points) => forecast(&points, now),
            Err(error) => {
                ui.warn(format_args!("there is no forecast: {error}"));
                self.state = None;
                None
            }
        }
    }
}

fn memories(state: &State) -> Result<HashMap<String, Memory>, StateError> {
    let checks = fact::latest_checks(state, SOURCE)?;
    let memory = |stored: fact::StoredCheck| {
        let memory = serde_json::from_value(stored.check.detail.get("memory")?.clone()).ok()?;
        Some((stored.check.target, memory))
    };
    Ok(checks.into_iter().filter_map(memory).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_automount_is_what_it_mounted_when_it_was_used() {
        let idle = "1 0 8:1 / / rw - ext4 /dev/a rw\n2 1 0:9 / /auto rw - autofs systemd-1 rw,direct\n";
        let table = |text: &str| MountTable::parse(text.as_bytes());
        let target = || Target::Mounted(Lookup::of(&table(idle)).at(Path::new("/auto")).cloned().unwrap());
        assert!(is_idle(&target()));
        let used = format!("{idle}3 2 8:2 / /auto rw - ext4 /dev/b rw\n");
        let Target::Mounted(mount) = awake(target(), &table(&used)) else { panic!("not mounted") };
        assert_eq!(mount.source, "/dev/b");
        assert_eq!(awake(target(), &table(idle)), target());
        let Target::Mounted(other) = awake(Target::Mounted(mount), &table(idle)) else { panic!("changed") };
        assert_eq!(other.source, "/dev/b");
    }
}
