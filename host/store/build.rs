//! A new migration makes the crate that embeds it be built again.

fn main() {
    for folder in ["sqlite", "postgres", "timescale", "timescale-community"] {
        println!("cargo:rerun-if-changed=../../migrations/{folder}");
    }
}
