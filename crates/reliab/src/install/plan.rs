//! What is to be done to a folder of units: a plain value, made before anything is touched.

use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use serde::Serialize;

/// The first line of every file that `install` writes: others are never touched.
const MARKER: &str = "# Written by reliab install, which replaces this file.";
/// The beginning of the second line: the jobs of another configuration are not this one's.
const OWNER: &str = "# Configuration: ";

/// What happens to a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// It is new.
    Write,
    /// It was written by an earlier run and says something else.
    Replace,
    /// It is as it should be.
    Keep,
    /// It belongs to a job that is gone.
    Remove,
    /// Somebody else wrote it, or another configuration's jobs are in it.
    Foreign,
}

/// The first two lines of a unit: its mark, and the configuration whose job it is.
pub fn head(config: &Path) -> String {
    format!("{MARKER}\n{}", owner_line(config))
}

/// The line that says whose the lines below it are.
pub fn owner_line(config: &Path) -> String {
    format!("{OWNER}{}\n", config.display().to_string().replace('\n', "\\n"))
}

/// A file and what happens to it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Change {
    /// The file.
    pub path: PathBuf,
    /// What happens to it.
    pub action: Action,
    /// What it is to say.
    #[serde(skip)]
    pub content: String,
}

/// Compares a folder with the units that it is to hold for a configuration.
pub fn plan(folder: &Path, wanted: &[(String, String)], config: &Path) -> io::Result<Vec<Change>> {
    let mut changes = Vec::new();
    for (name, content) in wanted {
        let path = folder.join(name);
        let action = match read(&path) {
            Ok(found) if found == *content => Action::Keep,
            Ok(found) if is_of(&found, config) => Action::Replace,
            Ok(_) => Action::Foreign,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Action::Write,
            Err(error) => return Err(at(&path, &error)),
        };
        changes.push(Change { path, action, content: content.clone() });
    }
    changes.extend(left_over(folder, wanted, config)?);
    Ok(changes)
}

/// Units that an earlier run wrote for the same configuration and that nobody wants any more.
fn left_over(folder: &Path, wanted: &[(String, String)], config: &Path) -> io::Result<Vec<Change>> {
    let names = match fs::read_dir(folder) {
        Ok(entries) => {
            entries.map(|entry| entry.map(|entry| entry.file_name())).collect::<io::Result<Vec<_>>>()
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
    };
    let mut names: Vec<_> = names.map_err(|error| at(folder, &error))?;
    names.sort();
    let is_unit = |name: &str| {
        name.starts_with("reliab-") && (has_ending(name, "service") || has_ending(name, "timer"))
    };
    let unwanted = |name: &str| is_unit(name) && wanted.iter().all(|(wanted, _)| wanted != name);
    let gone = names.iter().filter_map(|name| name.to_str()).filter(|name| unwanted(name));
    let ours =
        gone.map(|name| folder.join(name)).filter(|path| read(path).is_ok_and(|text| is_of(&text, config)));
    Ok(ours.map(|path| Change { path, action: Action::Remove, content: String::new() }).collect())
}

/// Whether a file name ends so, after a dot.
pub fn has_ending(name: &str, ending: &str) -> bool {
    Path::new(name).extension().is_some_and(|found| found == ending)
}

/// A file of somebody else may hold anything.
fn read(path: &Path) -> io::Result<String> {
    fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
}

fn is_of(content: &str, config: &Path) -> bool {
    content.starts_with(&head(config))
}

/// Why a foreign unit is left as it is, and how to go on.
pub fn refusal(path: &Path) -> String {
    let content = read(path).unwrap_or_default();
    let owner = content.strip_prefix(MARKER).and_then(|rest| rest.trim_start().strip_prefix(OWNER));
    let path = path.display();
    match owner.and_then(|rest| rest.lines().next()) {
        Some(owner) => format!(
            "{path} belongs to the configuration {owner}: give the job another name, or first run: \
             reliab install --remove --config {owner}"
        ),
        None => format!("reliab did not write {path}: move it away, or give the job another name"),
    }
}

/// Carries out a plan that has nothing foreign in it.
pub fn apply(folder: &Path, changes: &[Change]) -> io::Result<()> {
    fs::create_dir_all(folder).map_err(|error| at(folder, &error))?;
    for change in changes {
        let result = match change.action {
            Action::Write | Action::Replace => write_whole(&change.path, &change.content),
            Action::Remove => fs::remove_file(&change.path),
            Action::Keep | Action::Foreign => Ok(()),
        };
        result.map_err(|error| at(&change.path, &error))?;
    }
    Ok(())
}

/// systemd may read the folder at any moment: a unit is there whole or as it was.
fn write_whole(path: &Path, content: &str) -> io::Result<()> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let temporary = path.with_file_name(format!(".{name}.{}.tmp", std::process::id()));
    let result = (|| {
        let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o644).open(&temporary)?;
        file.set_permissions(fs::Permissions::from_mode(0o644))?;
        file.write_all(content.as_bytes())?;
        file.sync_all()?;
        fs::rename(&temporary, path)
    })();
    if result.is_err() {
        // It may not have been made at all.
        let _ = fs::remove_file(&temporary);
    }
    result
}

fn at(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("cannot use {}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONFIG: &str = "/etc/reliab/reliab.toml";

    fn plan(folder: &Path, wanted: &[(String, String)]) -> io::Result<Vec<Change>> {
        super::plan(folder, wanted, Path::new(CONFIG))
    }

    fn wanted(names: &[&str]) -> Vec<(String, String)> {
        let head = head(Path::new(CONFIG));
        names.iter().map(|&name| (name.to_owned(), format!("{head}{name}\n"))).collect()
    }

    #[test]
    fn the_units_of_another_configuration_are_neither_replaced_nor_removed() {
        let dir = tempfile::tempdir().unwrap();
        let first = wanted(&["reliab-a.timer", "reliab-b.timer"]);
        apply(dir.path(), &plan(dir.path(), &first).unwrap()).unwrap();
        let other = Path::new("/etc/reliab/reliab.toml.new");
        let changes = super::plan(dir.path(), &[("reliab-a.timer".into(), head(other))], other).unwrap();
        assert_eq!(changes.iter().map(|change| change.action).collect::<Vec<_>>(), [Action::Foreign]);
        assert!(refusal(&changes[0].path).contains("install --remove --config /etc/reliab/reliab.toml"));
        assert_eq!(super::plan(dir.path(), &[], other).unwrap(), []);
    }

    #[test]
    fn a_folder_becomes_what_is_wanted_and_nothing_else_is_touched() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("system");
        let actions =
            |wanted: &[_]| plan(&folder, wanted).unwrap().iter().map(|c| c.action).collect::<Vec<_>>();
        let first = wanted(&["reliab-a.service", "reliab-a.timer"]);
        assert_eq!(actions(&first), [Action::Write, Action::Write]);
        apply(&folder, &plan(&folder, &first).unwrap()).unwrap();
        assert_eq!(actions(&first), [Action::Keep, Action::Keep]);
        fs::write(folder.join("reliab-mine.timer"), "[Timer]\n").unwrap();
        let second = wanted(&["reliab-a.service", "reliab-mine.timer"]);
        assert_eq!(actions(&second), [Action::Keep, Action::Foreign, Action::Remove]);
        apply(&folder, &plan(&folder, &[]).unwrap()).unwrap();
        let left: Vec<_> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left, ["reliab-mine.timer"]);
        assert_eq!(fs::read_to_string(folder.join("reliab-mine.timer")).unwrap(), "[Timer]\n");
    }

    #[test]
    fn a_unit_that_cannot_be_written_leaves_nothing_behind() {
        let dir = tempfile::tempdir().unwrap();
        let changes = plan(dir.path(), &wanted(&["reliab-a.timer"])).unwrap();
        fs::create_dir(dir.path().join("reliab-a.timer")).unwrap();
        let error = apply(dir.path(), &changes).unwrap_err().to_string();
        assert!(error.contains("reliab-a.timer"), "{error}");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
