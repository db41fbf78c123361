//! The operator's program; see the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    runtime::install_tls_provider();
    operator::args::main()
}
