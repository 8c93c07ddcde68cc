//! `completions`: what a shell needs to complete reliab's command lines.

use std::io;

use clap::ValueEnum;
use clap_complete::Shell;
use reliab_common::app::document;
use reliab_common::exit::Exit;
use reliab_common::ui::Ui;
use serde::Serialize;

/// Print the completions for a shell.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  reliab completions bash > /etc/bash_completion.d/reliab\n  \
                        reliab completions fish > ~/.config/fish/completions/reliab.fish")]
pub struct Args {
    /// The shell.
    shell: Shell,
}

/// What `--json` prints.
#[derive(Serialize)]
struct Report {
    shell: String,
    completions: String,
}

impl Args {
    /// Prints them.
    pub fn run(self, ui: &mut Ui) -> io::Result<()> {
        let mut text = Vec::new();
        clap_complete::generate(self.shell, &mut crate::command(), "reliab", &mut text);
        if ui.is_json() {
            let shell = self.shell.to_possible_value().map(|value| value.get_name().to_owned());
            let completions = String::from_utf8_lossy(&text).into_owned();
            let report = Report { shell: shell.unwrap_or_default(), completions };
            ui.json(&document("completions", Exit::Done, report));
        } else {
            ui.raw_out(&text);
        }
        ui.finish()
    }
}
