//! `man`: the help as manual pages, one a command.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use reliab_common::ui::Ui;

/// Write the manual pages into a folder, or print the first.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  reliab man | man -l -\n  reliab man /usr/local/share/man/man1")]
pub struct Args {
    /// The folder; without it the page of reliab itself is printed.
    dir: Option<PathBuf>,
}

impl Args {
    /// Writes them.
    pub fn run(self, ui: &mut Ui) -> io::Result<()> {
        let mut front = crate::command().disable_help_subcommand(true);
        front.build();
        match &self.dir {
            None => ui.raw_out(&page(front)?),
            Some(dir) => {
                fs::create_dir_all(dir).map_err(|error| at(dir, &error))?;
                let count = write_all(&front, "reliab", dir)?;
                ui.summary(format_args!("{count} manual pages written to {}", dir.display()));
            }
        }
        ui.finish()
    }
}

/// Writes the pages of a command and of those below it, and returns how many.
fn write_all(command: &clap::Command, name: &str, dir: &Path) -> io::Result<usize> {
    let path = dir.join(format!("{name}.1"));
    fs::write(&path, page(command.clone())?).map_err(|error| at(&path, &error))?;
    command.get_subcommands().try_fold(1, |count, below| {
        Ok(count + write_all(below, &format!("{name}-{}", below.get_name()), dir)?)
    })
}

fn page(command: clap::Command) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    clap_mangen::Man::new(command).render(&mut text)?;
    Ok(text)
}

fn at(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("cannot write {}: {error}", path.display()))
}
