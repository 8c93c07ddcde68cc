//! `reliab backup` as a binary of its own.

fn main() -> std::process::ExitCode {
    reliab_common::app::main_of::<reliab_backup::backup::Args>("reliab-backup")
}
