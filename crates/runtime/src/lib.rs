//! What both long-running programs do alike.
//!
//! ```text
//! main ──> install_tls_provider, telemetry::init
//!      ──> admin::serve(listener, router + admin::metrics_route(registry), stop)
//!      ──> shutdown_signal ──> stop
//! operator ──> cordon::SigningKey::sign ──> token ──> cordon::PublicKeys::check ──> sidecar
//! both ──> grace: what is for the tasks of a pod that ends
//! ```
//!
//! Nothing here knows Kubernetes or Conductor.

pub mod admin;
pub mod backoff;
pub mod cordon;
pub mod grace;
mod host;
mod shutdown;
pub mod telemetry;

pub use host::host_name;
pub use shutdown::shutdown_signal;

/// Makes ring the process's TLS provider. Each program calls it first, and each test that
/// makes an HTTP client; a second call does nothing.
pub fn install_tls_provider() {
    // An error only says that there is one already.
    let _ = rustls::crypto::ring::default_provider().install_default();
}
