//! The matrix as tests: `cargo test -p faults`. It starts what it needs, Conductor and Redis
//! included, and stops it. A word after `--` chooses faults: `double`, `redis`, `killed`, ….

use std::path::Path;

fn main() {
    let sidecar = Path::new(env!("CARGO_BIN_EXE_faults-sidecar"));
    // The build's folder, wherever it is: target/debug/faults-sidecar.
    let target = sidecar.ancestors().nth(2).unwrap_or(Path::new("."));
    let programs = faults::programs::Programs {
        sidecar: sidecar.to_owned(),
        handler: env!("CARGO_BIN_EXE_faults-handler").into(),
        output: target.join("faults"),
    };
    faults::run(programs).exit();
}
