//! The sidecar's program, built beside the suite so that the suite knows where it is.

fn main() -> std::process::ExitCode {
    runtime::install_tls_provider();
    worker_sidecar::args::main()
}
