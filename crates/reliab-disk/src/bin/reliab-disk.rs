//! `reliab disk` as a binary of its own.

fn main() -> std::process::ExitCode {
    reliab_common::app::main_of::<reliab_disk::Args>("reliab-disk")
}
