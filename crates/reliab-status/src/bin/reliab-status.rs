//! `reliab-status`: the command `status` alone.

fn main() -> std::process::ExitCode {
    reliab_common::app::main_of::<reliab_status::Args>("reliab-status")
}
