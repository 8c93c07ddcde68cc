//! A folder for a rehearsal, which can be removed whatever was restored into it.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::Context as _;
use tempfile::TempDir;

/// A scratch folder, removed when dropped.
pub(crate) struct Scratch(Option<TempDir>);

impl Scratch {
    /// Makes a scratch folder in `parent`, or in the system's folder for temporary files.
    pub fn create(parent: Option<&Path>) -> anyhow::Result<Self> {
        let parent = parent.map_or_else(std::env::temp_dir, Path::to_owned);
        let folder = tempfile::Builder::new()
            .prefix("reliab-rehearsal-")
            .tempdir_in(&parent)
            .with_context(|| format!("cannot create a scratch folder in {}", parent.display()))?;
        Ok(Self(Some(folder)))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        self.0.as_ref().map_or(Path::new(""), TempDir::path)
    }

    /// Removes it, or says why that cannot be.
    pub fn remove(mut self) -> anyhow::Result<()> {
        let path = self.path().to_owned();
        self.clear().with_context(|| format!("cannot remove the scratch folder {}", path.display()))
    }

    fn clear(&mut self) -> io::Result<()> {
        let Some(folder) = self.0.take() else { return Ok(()) };
        let path = folder.keep();
        match fs::remove_dir_all(&path) {
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                open_up(&path)?;
                fs::remove_dir_all(&path)
            }
            other => other,
        }
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // Whoever wants to know calls `remove`.
        drop(self.clear());
    }
}

/// Makes folders writable for their owner: restored ones may be read-only.
fn open_up(folder: &Path) -> io::Result<()> {
    fs::set_permissions(folder, fs::Permissions::from_mode(0o700))?;
    for item in fs::read_dir(folder)? {
        let item = item?;
        if item.file_type()?.is_dir() {
            open_up(&item.path())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scratch_folder_is_removed_with_read_only_folders_in_it() {
        let parent = tempfile::tempdir().unwrap();
        let scratch = Scratch::create(Some(parent.path())).unwrap();
        let closed = scratch.path().join("closed/inner");
        fs::create_dir_all(&closed).unwrap();
        fs::write(closed.join("file"), "x").unwrap();
        fs::set_permissions(&closed, fs::Permissions::from_mode(0o500)).unwrap();
        open_up(scratch.path()).unwrap();
        scratch.remove().unwrap();
        assert_eq!(fs::read_dir(parent.path()).unwrap().count(), 0);
    }
}
