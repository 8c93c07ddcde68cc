//! What is to be done to a folder of units: a plain value, made before anything is touched.

use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::unit::MARKER;

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
    /// Somebody else wrote it.
    Foreign,
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

/// Compares a folder with the units that it is to hold.
pub fn plan(folder: &Path, wanted: &[(String, String)]) -> io::Result<Vec<Change>> {
    let mut changes = Vec::new();
    for (name, content) in wanted {
        let path = folder.join(name);
        let action = match fs::read_to_string(&path) {
            Ok(found) if found == *content => Action::Keep,
            Ok(found) if is_ours(&found) => Action::Replace,
            Ok(_) => Action::Foreign,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Action::Write,
            Err(error) => return Err(at(&path, &error)),
        };
        changes.push(Change { path, action, content: content.clone() });
    }
    changes.extend(left_over(folder, wanted)?);
    Ok(changes)
}

/// Units that an earlier run wrote and that nobody wants any more.
fn left_over(folder: &Path, wanted: &[(String, String)]) -> io::Result<Vec<Change>> {
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
    let ours = gone
        .map(|name| folder.join(name))
        .filter(|path| fs::read_to_string(path).is_ok_and(|text| is_ours(&text)));
    Ok(ours.map(|path| Change { path, action: Action::Remove, content: String::new() }).collect())
}

/// Whether a file name ends so, after a dot.
pub fn has_ending(name: &str, ending: &str) -> bool {
    Path::new(name).extension().is_some_and(|found| found == ending)
}

fn is_ours(content: &str) -> bool {
    content.starts_with(MARKER)
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

    fn wanted(names: &[&str]) -> Vec<(String, String)> {
        names.iter().map(|&name| (name.to_owned(), format!("{MARKER}\n{name}\n"))).collect()
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
