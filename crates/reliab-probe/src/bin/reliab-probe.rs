//! `reliab probe` as a binary of its own.

fn main() -> std::process::ExitCode {
    reliab_common::app::main_of::<reliab_probe::probe::Args>("reliab-probe")
}
