//! The matrix as tests: `cargo test -p chaos`. It starts what it needs, Conductor and Redis
//! included, and stops it. A word after `--` chooses faults: `double`, `redis`, `killed`, ….

use std::path::Path;

fn main() {
    let sidecar = Path::new(env!("CARGO_BIN_EXE_chaos-sidecar"));
    // The build's folder, wherever it is: target/debug/chaos-sidecar.
    let target = sidecar.ancestors().nth(2).unwrap_or(Path::new("."));
    let programs = chaos::programs::Programs {
        sidecar: sidecar.to_owned(),
        handler: env!("CARGO_BIN_EXE_chaos-handler").into(),
        output: target.join("chaos"),
    };
    chaos::run(programs).exit();
}
