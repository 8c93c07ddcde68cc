//! `completions`: what a shell needs to complete reliab's command lines.

use std::io;

use clap_complete::Shell;
use reliab_common::ui::Ui;

/// Print the completions for a shell.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  reliab completions bash > /etc/bash_completion.d/reliab\n  \
                        reliab completions fish > ~/.config/fish/completions/reliab.fish")]
pub struct Args {
    /// The shell.
    shell: Shell,
}

impl Args {
    /// Prints them.
    pub fn run(self, ui: &mut Ui) -> io::Result<()> {
        let mut text = Vec::new();
        clap_complete::generate(self.shell, &mut crate::command(), "reliab", &mut text);
        ui.raw_out(&text);
        ui.finish()
    }
}
