//! `reliab alert` as a binary of its own.

fn main() -> std::process::ExitCode {
    reliab_alert::main()
}
