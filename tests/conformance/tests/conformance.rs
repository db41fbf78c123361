//! The suite as a test: `cargo test -p conformance`. It starts what it needs, Conductor and
//! Redis included, and stops it. A word after `--` chooses cases: `embedded`, `polls`, ….

fn main() {
    conformance::run().exit();
}
