//! The kubectl plugin: `kubectl conductor dev`.

use std::process::ExitCode;

fn main() -> ExitCode {
    runtime::install_tls_provider();
    kubectl_conductor::args::main()
}
