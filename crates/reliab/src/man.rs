//! `man`: the help as manual pages, one a command.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use reliab_common::app::document;
use reliab_common::exit::Exit;
use reliab_common::ui::Ui;
use serde::Serialize;

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
        let done = self.write(ui);
        if let Err(error) = &done
            && ui.is_json()
        {
            ui.json(&document("man", Exit::Failed, Told { error: error.to_string() }));
        }
        done.and(ui.finish())
    }

    fn write(&self, ui: &mut Ui) -> io::Result<()> {
        let mut front = crate::command().disable_help_subcommand(true);
        front.build();
        let Some(dir) = &self.dir else {
            let text = page(front)?;
            if ui.is_json() {
                let page = String::from_utf8_lossy(&text).into_owned();
                ui.json(&document("man", Exit::Done, Printed { page }));
            } else {
                ui.raw_out(&text);
            }
            return Ok(());
        };
        fs::create_dir_all(dir).map_err(|error| at(dir, &error))?;
        let pages = write_all(&front, "reliab", dir)?;
        if ui.is_json() {
            ui.json(&document("man", Exit::Done, WrittenTo { dir, pages }));
        }
        ui.summary(format_args!("{pages} manual pages written to {}", dir.display()));
        Ok(())
    }
}

/// What `--json` prints without a folder.
#[derive(Serialize)]
struct Printed {
    page: String,
}

/// What it prints with one.
#[derive(Serialize)]
struct WrittenTo<'a> {
    dir: &'a Path,
    pages: usize,
}

/// What it prints of a failure.
#[derive(Serialize)]
struct Told {
    error: String,
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
