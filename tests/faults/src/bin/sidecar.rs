//! The sidecar's program, built beside the suite so that the suite knows where it is.

use std::process::ExitCode;

fn main() -> ExitCode {
    if let Err(error) = faults::programs::end_with_parent() {
        eprintln!("faults-sidecar: {error}");
        return ExitCode::FAILURE;
    }
    runtime::install_tls_provider();
    worker_sidecar::args::main()
}
