//! See the library's documentation.

fn main() -> std::process::ExitCode {
    runtime::install_tls_provider();
    worker_sidecar::args::main()
}
