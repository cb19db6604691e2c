//! The program `netpoll`: see `netpoll --help`.

mod cli;

fn main() -> std::process::ExitCode {
    cli::main()
}
